"""Metrics: counted in each scheduler, asked for by the efficiency scheduler, and shown as Prometheus text.

``request_meter`` and ``effect_meter`` count where requests and effects end. A ``Snapshot`` is what one process knows at
one time; ``Totals`` adds up those of all, so that nothing counted goes down when a process is replaced.
"""

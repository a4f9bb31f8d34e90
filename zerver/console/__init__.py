"""The console: kept traces, pipelines, schedulers and actors on a page, and replay."""

"""The server: ASGI adapter, lifespan and boot."""

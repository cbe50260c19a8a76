"""The process: one port for HTTP and WebSockets, routes, authentication, limits."""

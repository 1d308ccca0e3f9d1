"""Floor 3: sockets, HTTP and WebSocket, as they would be right in any program. No AT Protocol policy."""

"""The streaming part of Janus' API, over HTTP long polls and WebSockets."""

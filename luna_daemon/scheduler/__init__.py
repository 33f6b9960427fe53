"""Pure policy: state in, decisions out. No socket, no thread, no clock, no tensor."""

"""Bytes and tensors between processes of one machine: sockets, shared memory, and which to use."""

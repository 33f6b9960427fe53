"""What loads and runs models. Imported only inside a worker process."""

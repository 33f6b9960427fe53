"""The daemon that holds shared models, the way to it (client, proxies), and nothing that runs on import."""

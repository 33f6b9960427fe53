"""Lists of prompts: files of CSV, JSON, JSON lines or YAML with an entry for each picture that is to be made."""

"""What is asked of the server: tasks and their targets, arrivals, prompts, load descriptions."""

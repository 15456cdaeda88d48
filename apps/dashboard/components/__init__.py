"""Parts of pages that run in the browser: each a script, a style sheet and the function that mounts it."""

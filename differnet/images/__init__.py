"""Pictures: reading files, understanding folders, and measuring what a picture is like."""

"""`python -m differnet`: the program, for whatever starts modules, such as torchrun."""

from differnet.cli import main

if __name__ == "__main__":
    main()

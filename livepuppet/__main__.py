"""`python -m livepuppet`: the command line, where its script is not on the path."""

from livepuppet.realtime.app.cli import main

if __name__ == "__main__":
    main()

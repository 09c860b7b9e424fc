"""What a generator that is steered from outside (`forebay-bench flow --control`) is told, on its standard input."""

import subprocess


class Orders:
    """Of a class that has started one."""

    process: subprocess.Popen

    def ended(self) -> Exception:
        """What is raised when it is there no more."""
        raise NotImplementedError

    def order(self, text: str) -> None:
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.ended() from None

    def mark(self, name: str) -> None:
        self.order(f"mark {name}")

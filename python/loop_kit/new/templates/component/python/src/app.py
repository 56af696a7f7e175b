"""What `interface words` in wit/words.wit promises."""

from collections import Counter

from wit_world import exports


class Words(exports.Words):
    """The interface, by its name."""

    def count(self, text: str) -> list[tuple[str, int]]:
        """How often each word is there."""
        return sorted(Counter(text.split()).items(), key=lambda item: (-item[1], item[0]))

"""An untrusted plugin in a Python program: it gets what it is given, and no more time than it is given."""

from pathlib import Path

import loop_kit as loop

PLUGIN = Path(__file__).with_name("plugin.wasm")


class Host:
    """All that the plugin can reach."""

    def log(self, message: str) -> None:
        print("plugin says:", message)


def main() -> None:
    with loop.blocking.Host() as host:
        plugin = host.load(
            PLUGIN,
            imports={"acme:plugin/host": Host()},
            limits=loop.Limits(memory="16MiB", deadline="200ms"),
        )
        print(plugin.call("acme:plugin/filter#shout", "hello, sandbox"))
        try:
            plugin.exports["acme:plugin/filter"].spin()
        except loop.errors.DeadlineExceeded as e:
            print("stopped:", e)
        try:
            plugin.call("shout", 42)
        except loop.errors.ArgumentError as e:
            print("refused:", e)


if __name__ == "__main__":
    main()

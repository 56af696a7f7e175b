"""`loop completion`."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

from loop_kit.cli._app import COMPLETE_VARIABLE, PROGRAM, app
from loop_kit.cli._output import examples

__all__ = ["completion"]


class _Bash(BashComplete):
    """click's script, for words with colons, such as `oci-layout:DIR`.

    bash breaks words at them, and takes what it is given for what stands behind the last one. So what was broken is put
    together, and answers lose what stands there already; `COMP_WORDBREAKS` is the whole shell's, and left alone.
    """

    source_template = r"""%(complete_func)s() {
    local IFS=$'\n'
    local response word words=() at=-1 glued= i completion type value

    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((at >= 0)) && [[ $glued || $word == :* ]]; then
            words[at]+=$word
        else
            words[++at]=$word
        fi
        [[ $word == *: ]] && glued=1 || glued=
    done
    local there=${words[at]%%"${words[at]##*:}"}

    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$at %(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$there"}")
            [[ $value == *: ]] && compopt -o nospace 2>/dev/null
        fi
    done

    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


@click.command(
    epilog=examples(
        ('eval "$(loop completion bash)"', "in ~/.bashrc"),
        ('eval "$(loop completion zsh)"', "in ~/.zshrc"),
        ("loop completion fish > ~/.config/fish/completions/loop.fish", ""),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands in your shell.

    Commands, options, and the names of the components in loop.toml are completed.
    """
    complete = _Bash if shell == "bash" else get_completion_class(shell)
    assert complete is not None
    click.echo(complete(app, {}, PROGRAM, COMPLETE_VARIABLE).source())

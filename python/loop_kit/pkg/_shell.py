"""Hooks that have a workspace's programs in PATH while a shell is in its folder, or below."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from loop_kit.pkg._store import data_folder

__all__ = ["SHELLS", "folder_of", "hook"]

_POSIX = """\
_loop_pkg() {
  local mine=":${_LOOP_PKG:-/}:" all=":$PATH:" at="$PWD"
  case "$all" in *"$mine"*)
    PATH="${all%%"$mine"*}:${all#*"$mine"}"; PATH="${PATH#:}"; PATH="${PATH%:}" ;;
  esac
  unset _LOOP_PKG
  while [ -n "$at" ]; do
    if [ -d @TOP@"$at/@bin" ]; then
      _LOOP_PKG=@TOP@"$at/@bin"; PATH="$_LOOP_PKG:$PATH"; break
    fi
    at="${at%/*}"
  done
}
"""
_BASH = """\
_loop_pkg_prompt() {
  local code=$?
  [ "$PWD" = "${_LOOP_PKG_PWD-}" ] || { _LOOP_PKG_PWD="$PWD"; _loop_pkg; }
  return $code
}
case ";${PROMPT_COMMAND[*]:-};" in
  *_loop_pkg_prompt*) ;;
  *) PROMPT_COMMAND="_loop_pkg_prompt${PROMPT_COMMAND:+;$PROMPT_COMMAND}" ;;
esac
_loop_pkg
"""
_ZSH = """\
autoload -Uz add-zsh-hook
add-zsh-hook chpwd _loop_pkg
_loop_pkg
"""
_FISH = """\
function _loop_pkg --on-variable PWD
  if set -q _LOOP_PKG
    set -l at (contains -i -- $_LOOP_PKG $PATH); and set -e PATH[$at]
    set -e _LOOP_PKG
  end
  set -l at $PWD
  while test -n "$at"
    if test -d @TOP@"$at/@bin"
      set -g _LOOP_PKG @TOP@"$at/@bin"; set -gx PATH $_LOOP_PKG $PATH; break
    end
    set at (string replace -r '/[^/]*$' '' -- $at)
  end
end
_loop_pkg
"""

SHELLS = {"bash": _POSIX + _BASH, "zsh": _POSIX + _ZSH, "fish": _FISH}


def hook(shell: str) -> str:
    """What a shell evaluates once, when it starts. It runs no program, and looks at folders of its user's alone."""
    top = str(data_folder() / "packages" / "on")
    return SHELLS[shell].replace("@TOP@", shlex.quote(top))


def folder_of(folder: Path) -> Path | None:
    """The folder of scripts that such a hook would choose in a folder."""
    top = data_folder() / "packages" / "on"
    for at in (folder, *folder.parents):
        found = top / str(at).strip("/") / "@bin"
        if found.is_dir() and os.fspath(at) != "/":
            return found
    return None

"""Which files count for which member, and the digests that follow."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loop_kit.capabilities.fsx._pattern import Pattern
from loop_kit.dev._events import Member
from loop_kit.dev._files import NEVER, Files, Found, below, combined, is_never
from loop_kit.dev._imports import Imports
from loop_kit.dev._inputs import Inputs, Rule

__all__ = ["Tree", "changes"]

Snapshot = Mapping[str, str | None]

_CODE = (".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".json")


@dataclass
class _Group:
    """Members with the same rules."""

    rules: tuple[Rule, ...]
    members: list[Member] = field(default_factory=list)
    files: dict[str, str | None] = field(default_factory=dict)


def changes(old: Snapshot, new: Snapshot) -> set[str]:
    """The paths that two snapshots do not agree about."""
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def _separate(folders: set[str]) -> list[str]:
    """Those that do not lie in another."""
    return [at for at in folders if not any(other != at and below(at, other) for other in folders)]


class Tree:
    """The files that count, with their digests.

    Attributes:
        inputs: What each member is made of.
    """

    def __init__(self, files: Files, imports: Imports) -> None:
        self.inputs: dict[Member, Inputs] = {}
        self._files = files
        self._imports = imports
        self._root = str(files.folder)
        self._compiled: dict[str, Pattern] = {}
        self._groups: dict[Member, _Group] = {}
        self._by_base: dict[str, list[_Group]] = {}
        self._near: dict[str, list[_Group]] = {}
        self._apart: frozenset[str] = frozenset()
        self._named: dict[Member, dict[str, str | None]] = {}
        self._users: dict[str, set[Member]] = {}
        self._digests: dict[str, str | None] = {}
        self._folders: set[str] = set()
        self._known: set[str] = set()
        self._links: dict[str, str] = {}

    def define(self, inputs: Mapping[Member, Inputs]) -> None:
        """Says what members there are; `scan` comes next."""
        self.inputs = dict(inputs)
        made = {str(found.output) for found in inputs.values() if found.output is not None}
        manifest = {
            path for member, found in inputs.items() if member.kind == "manifest" for path in found.files
        }
        self._apart = frozenset(made | manifest)
        known = {group.rules: group for group in self._groups.values()}
        self._groups, self._by_base, self._near = {}, {}, {}
        groups: dict[tuple[Rule, ...], _Group] = {}
        for member, found in inputs.items():
            if not found.rules:
                continue
            group = groups.get(found.rules)
            if group is None:
                before = known.get(found.rules)
                group = groups[found.rules] = _Group(found.rules, files=before.files if before else {})
                for base in dict.fromkeys(rule.base for rule in found.rules if rule.take):
                    self._by_base.setdefault(base, []).append(group)
            group.members.append(member)
            self._groups[member] = group
        self._named = {member: found for member, found in self._named.items() if member in inputs}
        self._users = {path: users & inputs.keys() for path, users in self._users.items()}

    async def look(self) -> Found:
        """Walks the workspace."""
        return await self._files.walk(self._root)

    async def scan(self, found: Found) -> dict[Member, set[str]]:
        """Looks at everything, as `look` has found it; returns what has changed, by member."""
        self._folders = set(found.folders)
        self._known = {path for path in found.files if path.endswith(_CODE)}
        self._digests.clear()
        self._links = {path: os.path.realpath(path) for path in found.links}
        told: dict[Member, set[str]] = defaultdict(set)
        new: dict[int, dict[str, str | None]] = defaultdict(dict)
        for path in (*found.files, *found.links):
            for group in self._groups_near(path):
                if self._counts(group, path, visible=True):
                    new[id(group)][path] = await self._digest(path)
        groups = list({id(group): group for group in self._groups.values()}.values())
        for group in groups:
            new[id(group)] |= await self._aside(group)
        for group in groups:
            self._tell(told, group, changes(group.files, new[id(group)]))
            group.files = new[id(group)]
        await self._follow(told, self.inputs)
        return told

    async def refresh(self, member: Member) -> dict[Member, set[str]]:
        """Looks anew at what one member's rules are about; returns what has changed, by member."""
        told: dict[Member, set[str]] = defaultdict(set)
        group = self._groups.get(member)
        if group is None:
            return told
        for path in group.files:
            self._digests.pop(path, None)
        new: dict[str, str | None] = {}
        for base in _separate(
            {rule.base for rule in group.rules if rule.take and below(rule.base, self._root)}
        ):
            found = await self._files.walk(base)
            self._folders.update(found.folders)
            self._links.update((path, os.path.realpath(path)) for path in found.links)
            for path in (*found.files, *found.links, *([base] if os.path.isfile(base) else [])):
                if self._counts(group, path, visible=True):
                    new[path] = await self._digest(path)
        new |= await self._aside(group)
        self._tell(told, group, changes(group.files, new))
        group.files = new
        return told

    def peers(self, member: Member) -> list[Member]:
        """Those that are made of the same files, itself among them."""
        group = self._groups.get(member)
        return [member] if group is None else group.members

    async def update(self, paths: Iterable[str]) -> dict[Member, set[str]]:
        """Looks at what may have changed; returns what has, by member."""
        told: dict[Member, set[str]] = defaultdict(set)
        wanted = {path for path in paths if self._concerns(path)}
        if any(path.endswith("/.gitignore") for path in wanted):
            return await self.scan(await self.look())
        for link, real in self._links.items():
            if any(below(path, real) for path in wanted):
                wanted.add(link)
        gone, visible, known = await self._sort(wanted)
        for path in gone | visible | known | wanted:
            self._digests.pop(path, None)
        for path in gone:
            for group in self._groups_near(path):
                if path in group.files:
                    del group.files[path]
                    self._tell(told, group, {path})
        for path in visible | known:
            if os.path.islink(path):
                self._links[path] = os.path.realpath(path)
            for group in self._groups_near(path):
                if not self._counts(group, path, visible=path in visible or path in group.files):
                    continue
                digest = await self._digest(path, anew=True)
                if digest is not None and group.files.get(path) != digest:
                    group.files[path] = digest
                    self._tell(told, group, {path})
        concerned = set().union(*(self._users.get(path, ()) for path in wanted | gone))
        # what is new may be what somebody imports in vain
        new = {path for path in visible | known if path.endswith(_CODE)} - self._users.keys() - self._known
        self._known = (self._known | new) - gone
        entries = {member for member, found in self.inputs.items() if new and found.entry is not None}
        await self._follow(told, concerned | entries)
        return told

    def snapshot(self, member: Member) -> dict[str, str | None]:
        """The files that its rules take, with their digests."""
        group = self._groups.get(member)
        return dict(group.files) if group is not None else {}

    def digest(self, member: Member) -> str:
        """One digest of all that counts for a member."""
        named, ruled = sorted(self._named.get(member, {}).items()), sorted(self.snapshot(member).items())
        return combined([(self.inputs[member].definition, None), *named, *ruled])

    def sources(self, member: Member, files: Snapshot, without: Iterable[str] = ()) -> str:
        """The digest of what a build depends on, of a snapshot."""
        left_out = set(without)
        items = sorted((path, digest) for path, digest in files.items() if path not in left_out)
        return combined([(self.inputs[member].definition, None), *items])

    def named(self, member: Member) -> dict[str, str | None]:
        """The files that count by their names and imports, with their digests."""
        return dict(self._named.get(member, {}))

    def takes(self, member: Member, path: str) -> bool:
        """Whether a file counts for a member, or would if it were there."""
        group = self._groups.get(member)
        return path in self._named.get(member, ()) or (
            group is not None and (path in group.files or self._counts(group, path, visible=True))
        )

    # ---- which files

    def _groups_near(self, path: str) -> list[_Group]:
        """The groups that have a rule about a path, by its folder or itself."""
        folder = os.path.dirname(path)
        near = self._near.get(folder)
        if near is None:
            near, at = [], folder
            while True:
                near += self._by_base.get(at, ())
                if at == os.path.dirname(at):
                    break
                at = os.path.dirname(at)
            near = self._near[folder] = list({id(group): group for group in near}.values())
        own = self._by_base.get(path)
        return near if own is None else [*near, *(group for group in own if group not in near)]

    def _counts(self, group: _Group, path: str, *, visible: bool) -> bool:
        if is_never(os.path.basename(path)):
            return False
        verdict: Rule | None = None
        for rule in group.rules:
            if (visible or rule.ignored or not rule.take) and rule.matches(path, self._compiled):
                verdict = rule
        if verdict is None or not verdict.take:
            return False
        # what builds make, and the manifest, count only where they are named
        return path not in self._apart or verdict.base == path

    async def _aside(self, group: _Group) -> dict[str, str | None]:
        """What counts though git ignores it, or is not in the workspace: named folders count from there on."""
        new: dict[str, str | None] = {}
        for rule in group.rules:
            if not rule.take or not (rule.ignored or rule.base not in self._folders):
                continue
            if os.path.isdir(rule.base):
                found = await self._files.walk(rule.base, ignore=not rule.ignored)
                self._folders.update(found.folders)
                paths = found.files + found.links
            else:
                paths = [rule.base]
            for path in paths:
                if self._counts(group, path, visible=True):
                    digest = await self._digest(path)
                    if digest is not None:
                        new[path] = digest
        return new

    def _concerns(self, path: str) -> bool:
        """Whether a path may count at all: what is in `node_modules` does not, unless somebody names it."""
        if path in self._users or path in self._apart:
            return True
        if is_never(os.path.basename(path)):
            return False
        rest = path[len(self._root) + 1 :] if below(path, self._root) else ""
        if NEVER.isdisjoint(rest.split("/")):
            return True
        return any(rule.ignored for group in self._groups_near(path) for rule in group.rules)

    async def _sort(self, paths: set[str]) -> tuple[set[str], set[str], set[str]]:
        """What is gone; what git does not ignore; and what else there is, all of it files and links."""
        gone: set[str] = set()
        visible: set[str] = set()
        known: set[str] = set()
        unknown: dict[str, set[str]] = defaultdict(set)
        walked = "\0"
        for path in sorted(paths, key=lambda path: path.split("/")):
            is_link = os.path.islink(path)
            if below(path, walked):  # all that is in it is known by now
                (known if os.path.lexists(path) else gone).add(path)
                continue
            if path in self._folders and (is_link or not os.path.isdir(path)):
                gone |= self._below(path)
                self._folders = {folder for folder in self._folders if not below(folder, path)}
                walked = path
            if not os.path.lexists(path):
                gone.add(path)
                self._links.pop(path, None)
            elif not is_link and path in self._folders:
                found = await self._files.walk(path)
                here = set(found.files + found.links)
                self._folders.update(found.folders)
                gone |= self._below(path) - here
                visible |= here
                walked = path
            else:
                known.add(path)
                if below(path, self._root):
                    unknown[os.path.dirname(path)].add(path)
        for folder, names in unknown.items():
            at, child = folder, ""
            while at not in self._folders and below(at, self._root):
                at, child = os.path.dirname(at), at
            found = await self._files.walk(at, deep=False)
            if child:
                # of a folder that was not known all is new
                names = {child} if child in found.folders else set()
            visible |= names & {*found.files, *found.links}
            for new in names & set(found.folders):
                inside = await self._files.walk(new)
                self._folders.update(inside.folders)
                visible.update(inside.files, inside.links)
        return gone, visible, {path for path in known if path not in visible and path not in self._folders}

    def _below(self, folder: str) -> set[str]:
        return {
            path
            for group in {id(group): group for group in self._groups.values()}.values()
            for path in group.files
            if below(path, folder)
        }

    # ---- digests

    async def _digest(self, path: str, *, anew: bool = False) -> str | None:
        if path not in self._digests:
            self._digests[path] = await self._files.digest(path, anew=anew)
        return self._digests[path]

    async def _follow(self, told: dict[Member, set[str]], members: Iterable[Member]) -> None:
        """Finds out anew which files count for members by their names and imports."""
        for member in members:
            found = self.inputs[member]
            named = found.files
            if found.entry is not None:
                named |= await self._imports.closure(found.entry, self._digest)
            before = self._named.get(member, {})
            now = {path: await self._digest(path) for path in named}
            for path in before.keys() - now.keys():
                self._users[path].discard(member)
            for path in now:
                self._users.setdefault(path, set()).add(member)
            if different := changes(before, now):
                told[member] |= different
            self._named[member] = now

    def _tell(self, told: dict[Member, set[str]], group: _Group, paths: set[str]) -> None:
        if paths:
            for member in group.members:
                told[member] |= paths

import type { Reader } from './bytes.js';
import { Failure, failureOf, protocolError } from './errors.js';
import { linkInfo, type Exports, type LinkInfo } from './exports.js';
import { Kind } from './frames.js';
import { Link } from './links.js';
import { readLink, writeLink, writeOutcome } from './messages.js';
import type { Session } from './session.js';

/** How many links a session may have. */
export const MAX_LINKS = 4096;

interface Asked {
  link: Link;
  resolve(link: Link): void;
  reject(failure: Failure): void;
}

/** The links of a session: those that the peer bound, and those that this side did. */
export class LinkBook {
  readonly #session: Session;
  readonly #theirs = new Map<number, Link>();
  readonly #ours = new Map<number, Link>();
  readonly #asked = new Map<number, Asked>();
  #next = 1;
  /** Link 0, through which calls go that no link was bound for. */
  readonly zero: Link;

  constructor(session: Session, open: boolean) {
    this.#session = session;
    this.zero = this.#make({ number: 0, name: 'link 0', grant: undefined, config: undefined });
    this.#ours.set(0, this.zero);
    if (!open) return;
    this.#theirs.set(0, this.zero);
    this.#bind(this.zero, session.exports);
  }

  #make(info: LinkInfo): Link {
    return new Link(this.#session, info, []);
  }

  /** The link that a call of the peer names; one that this side bound serves what calls back. */
  find(number: number): Link | undefined {
    return this.#theirs.get(number) ?? (number === 0 ? undefined : this.#ours.get(number));
  }

  /** Lets the factories make what serves a link; a promise where that takes time. */
  #bind(link: Link, exports: Exports): Promise<void> | undefined {
    const bound = exports.bind(link.info);
    if (!(bound instanceof Promise)) {
      link.objects = bound;
      return undefined;
    }
    const pending = bound.then((objects) => {
      link.objects = objects;
      link.pending = undefined;
    });
    pending.catch(() => undefined);
    link.pending = pending;
    return pending;
  }

  onLink(reader: Reader): void {
    const request = readLink(reader);
    reader.finish();
    const { number } = request;
    if (number === 0 || this.#theirs.has(number)) throw protocolError(`link ${number} is bound already`);
    const answer = (outcome?: unknown): void => {
      const failure = outcome === undefined ? undefined : failureOf(outcome, { interface: request.name, function: 'link' });
      if (failure) this.#theirs.delete(number);
      if (this.#session.ended) return;
      this.#session.output.frame(Kind.LINKED, 0, (writer) => {
        writer.uleb(number);
        writeOutcome(writer, failure);
      });
    };
    if (this.#theirs.size - (this.#theirs.has(0) ? 1 : 0) >= MAX_LINKS) {
      return answer(new Failure('overloaded', `${MAX_LINKS} links are bound`, { fields: { limit: String(MAX_LINKS) } }));
    }
    try {
      const link = this.#make(linkInfo(request));
      this.#theirs.set(number, link);
      const pending = this.#bind(link, this.#session.exports);
      if (pending) pending.then(() => answer(), answer);
      else answer();
    } catch (error) {
      answer(error);
    }
  }

  onUnlink(number: number): void {
    this.#theirs.get(number)?.end();
    this.#theirs.delete(number);
  }

  onDrop(linkNumber: number, resourceNumber: number, handle: Uint8Array): void {
    const resource = this.#session.exports.resources[resourceNumber];
    if (resource === undefined) throw protocolError(`a drop of resource ${resourceNumber}, which is not exported here`);
    // The link may have been unbound while the drop was on its way, and a drop has no answer.
    this.find(linkNumber)?.handles.drop(resource, handle);
  }

  onLinked(number: number, outcome: Failure | undefined): void {
    const asked = this.#asked.get(number);
    if (asked === undefined) throw protocolError(`an answer for link ${number}, which was not asked for`);
    this.#asked.delete(number);
    if (outcome === undefined) return asked.resolve(asked.link);
    this.#ours.delete(number);
    asked.reject(outcome);
  }

  /** Binds a link to the peer. */
  async link(name: string, grant: unknown, config: unknown): Promise<Link> {
    if (this.#session.leaving) throw this.#session.leaving;
    const number = this.#next++;
    const link = this.#make({ number, name, grant, config });
    await this.#bind(link, this.#session.exports);
    return new Promise((resolve, reject) => {
      this.#ours.set(number, link);
      this.#asked.set(number, { link, resolve, reject });
      const json = (value: unknown): string => (value === undefined ? '' : JSON.stringify(value));
      this.#session.output.frame(Kind.LINK, 0, (writer) =>
        writeLink(writer, { number, name, grant: json(grant), config: json(config) }),
      );
    });
  }

  /** Unbinds a link: the peer drops what it made in it. */
  unlink(link: Link): void {
    if (link.unlinked || !this.#ours.delete(link.number)) return;
    link.end();
    this.#session.output.frame(Kind.UNLINK, 0, (writer) => writer.uleb(link.number));
  }

  /** What other code makes for all links; nothing changes before the returned function is called. */
  async rebind(next: Exports): Promise<() => void> {
    const links = [...this.#theirs.values()];
    const objects = await Promise.all(links.map((link) => next.bind(link.info)));
    return () => {
      links.forEach((link, index) => {
        link.objects = objects[index] as object[];
      });
    };
  }

  end(): void {
    for (const link of [...this.#theirs.values(), ...this.#ours.values()]) link.end();
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    const reason = this.#session.leaving as Failure;
    for (const { reject } of asked) reject(reason);
  }
}

import type { LinkInfo } from './exports.js';
import { HandleTable, type ProxyHome } from './handles.js';
import type { Resource } from './types.js';

/** What a link needs of its session. */
export interface LinkSession {
  readonly ended: boolean;
  drop(link: number, resource: Resource, handle: Uint8Array): void;
}

/** A link of a session: who serves it here, and the handles made in it. */
export class Link implements ProxyHome {
  readonly info: LinkInfo;
  readonly number: number;
  /** What serves it, in the order of the exported interfaces. */
  objects: readonly object[];
  /** While that is being made. */
  pending: Promise<unknown> | undefined;
  readonly handles = new HandleTable();
  unlinked = false;
  readonly #session: LinkSession;

  constructor(session: LinkSession, info: LinkInfo, objects: readonly object[]) {
    this.#session = session;
    this.info = info;
    this.number = info.number;
    this.objects = objects;
  }

  get gone(): boolean {
    return this.unlinked || this.#session.ended;
  }

  dropHandle(resource: Resource, handle: Uint8Array): void {
    this.#session.drop(this.number, resource, handle);
  }

  /** Ends it: every handle made in it is dropped. */
  end(): void {
    this.unlinked = true;
    this.handles.clear();
  }
}

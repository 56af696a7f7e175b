import { Console } from 'node:console';
import { lstatSync, unlinkSync } from 'node:fs';
import { connect as netConnect, createServer, isIP, Socket, type AddressInfo, type Server } from 'node:net';
import type { Writable } from 'node:stream';
import * as tls from 'node:tls';
import { Wire } from './wire.js';

/** Where a provider is reached. */
export type Address =
  | { readonly kind: 'stdio' }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** Certificates, as PEM. With `ca` a listener asks its peers for certificates of it. */
export interface TlsOptions {
  readonly key?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly ca?: string | Buffer;
  /** The name that the listener's certificate must have, where it is not the host of the address. */
  readonly servername?: string;
}

/** Something that takes connections. */
export interface Listener {
  /** The address with the port that was chosen where 0 was given. */
  readonly address: string;
  close(): Promise<void>;
  /** Settles where it can end by itself, and has. */
  readonly ended?: Promise<void>;
}

/** How long a TLS handshake may take, in milliseconds. */
const TLS_HANDSHAKE = 10_000;

/**
 * Reads `stdio:`, `unix:/path` (or a relative one) or `tcp://host:port`.
 * @throws TypeError where it is none of them.
 */
export function parseAddress(text: string): Address {
  if (text === 'stdio:') return { kind: 'stdio' };
  // who connects by `shm:` shares memory with those that can, and finds out that this side cannot
  const unix = /^(?:unix|shm):([^\0]+)$/.exec(text);
  if (unix) return { kind: 'unix', path: unix[1] as string };
  const tcp = /^tcp:\/\/(\[[0-9a-fA-F:.]+\]|[^:/[\]]+):(\d{1,5})$/.exec(text);
  if (!tcp || Number(tcp[2]) > 65535) {
    throw new TypeError(`${JSON.stringify(text)} is no address; write stdio:, unix:/path or tcp://host:port`);
  }
  return { kind: 'tcp', host: (tcp[1] as string).replace(/^\[|\]$/g, ''), port: Number(tcp[2]) };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function guard(address: Address, what: string, lacking: string | false | undefined): void {
  if (address.kind !== 'tcp' || !lacking || isLoopback(address.host)) return;
  throw new TypeError(`tcp://${address.host}:${address.port} ${what}; ${lacking}, or use a loopback address`);
}

/** What a listener asks of those who connect. */
export interface Asked {
  readonly tls?: TlsOptions | undefined;
  /** They must show a token. */
  readonly known: boolean;
}

/**
 * Takes connections at an address.
 * @throws TypeError where the address may not be used so, or the system's error where it cannot be.
 */
export async function listen(
  address: Address,
  { tls: options, known }: Asked,
  onWire: (wire: Wire) => void,
): Promise<Listener> {
  guard(address, 'can be reached from other machines', !options
    ? 'give `tls` with key, cert and ca, or key and cert and a token'
    : !known && options.ca === undefined && 'give `tls` a ca, so that peers show certificates, or ask for a token');
  if (address.kind === 'stdio') {
    onWire(stdio());
    return { address: 'stdio:', close: () => Promise.resolve() };
  }
  const accept = (socket: Socket): void => {
    socket.setNoDelay(true);
    onWire(new Wire(socket, socket, peerOf(socket, address)));
  };
  const server = serverOf(options, accept);
  const path = address.kind === 'unix' ? address.path : undefined;
  if (path !== undefined) await removeStale(path);
  await listening(server, address);
  const bound = server.address() as AddressInfo;
  const host = address.kind === 'tcp' && address.host.includes(':') ? `[${address.host}]` : (address as { host?: string }).host;
  return {
    address: path === undefined ? `tcp://${host}:${bound.port}` : `unix:${path}`,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

function serverOf(options: TlsOptions | undefined, accept: (socket: Socket) => void): Server {
  if (options === undefined) return createServer({ allowHalfOpen: true }, accept);
  const mutual = options.ca !== undefined;
  const secure = { ...options, allowHalfOpen: true, requestCert: mutual, handshakeTimeout: TLS_HANDSHAKE };
  const server = tls.createServer(secure, accept);
  // A peer that fails the handshake is its own affair.
  server.on('tlsClientError', (_, socket) => socket.destroy());
  return server;
}

function listening(server: Server, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      // One connection that cannot be accepted, for want of file descriptors, ends none of the others.
      server.on('error', (error) => console.error('a connection could not be accepted:', error.message));
      resolve();
    });
    if (address.kind === 'tcp') return void server.listen(address.port, address.host);
    // The socket is made with these rights, so that there is no moment in which others could connect.
    const before = process.umask(0o177);
    try {
      server.listen((address as { path: string }).path);
    } finally {
      process.umask(before);
    }
  });
}

/** Removes a socket that nobody listens on any more. */
async function removeStale(path: string): Promise<void> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const alive = await new Promise<boolean>((resolve) => {
    const probe = netConnect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
  if (alive) throw new Error(`unix:${path} is in use; stop who listens there, or choose another path`);
  unlinkSync(path);
}

/**
 * Connects to an address.
 * Rejects with the system's error where nobody is there.
 */
export function connectWire(address: Address, options?: TlsOptions): Promise<Wire> {
  guard(address, 'leaves this machine, and nothing would protect what is sent', !options && 'give `tls`');
  if (address.kind === 'stdio') return Promise.resolve(stdio());
  return new Promise((resolve, reject) => {
    const socket = open(address, options);
    const ready = address.kind === 'tcp' && options !== undefined ? 'secureConnect' : 'connect';
    socket.once('error', reject);
    socket.once(ready, () => {
      socket.off('error', reject);
      socket.setNoDelay(true);
      resolve(new Wire(socket, socket, peerOf(socket, address)));
    });
  });
}

function open(address: Exclude<Address, { kind: 'stdio' }>, options: TlsOptions | undefined): Socket {
  if (address.kind === 'unix') return netConnect({ path: address.path, allowHalfOpen: true });
  const { host, port } = address;
  if (options === undefined) return netConnect({ host, port, allowHalfOpen: true });
  const name = isIP(host) === 0 ? { servername: host } : {};
  const secure: tls.ConnectionOptions & { allowHalfOpen: boolean } = {
    ...{ host, port, allowHalfOpen: true, timeout: TLS_HANDSHAKE },
    ...name,
    ...options,
  };
  const socket = tls.connect(secure);
  socket.once('timeout', () => socket.destroy(new Error('no TLS handshake in time')));
  socket.once('secureConnect', () => socket.setTimeout(0));
  return socket;
}

function peerOf(socket: Socket, address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return `tcp://${socket.remoteAddress ?? '?'}:${socket.remotePort ?? '?'}`;
}

let taken = false;

/**
 * Standard input and output as a connection. From then on everything else that would go to standard output goes to
 * standard error, for one stray line would break the frames. (`process.stdout` would block on a slow pipe.)
 */
function stdio(): Wire {
  if (taken) throw new Error('standard input and output are in use already; listen on another address');
  taken = true;
  reserveStdout();
  return new Wire(process.stdin, standardOutput(), 'stdio:');
}

let stdout: Writable | undefined;

/** Keeps standard output for frames, from before any other code has a chance to write to it. */
export function reserveStdout(): void {
  if (stdout !== undefined) return;
  stdout = process.stdout;
  const { stderr } = process;
  Object.defineProperty(process, 'stdout', { configurable: true, get: () => stderr });
  globalThis.console = new Console(stderr, stderr);
}

/** Writes that do not block where the other end of a pipe is slow; a plain file can only be written in order. */
function standardOutput(): Writable {
  try {
    return new Socket({ fd: 1, readable: false, writable: true });
  } catch {
    return stdout as Writable;
  }
}

/**
 * Connections as web streams.
 *
 * @module
 */
import type { Conn } from "./conn.ts";

/** Which directions of a connection have ended, as far as its streams know. */
interface Ends {
  read: boolean;
  write: boolean;
}

const ends = new WeakMap<Conn, Ends>();

function endsOf(conn: Conn): Ends {
  let found = ends.get(conn);
  if (found === undefined) ends.set(conn, found = { read: false, write: false });
  return found;
}

/** Notes the end of a direction; with the other one's, the connection closes. */
async function end(conn: Conn, direction: keyof Ends): Promise<void> {
  const both = endsOf(conn);
  both[direction] = true;
  if (both.read && both.write) await conn.close();
}

/** What arrives. @internal */
export function readableOf(conn: Conn): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      let chunk: Uint8Array | null;
      try {
        chunk = await conn.chunk();
      } catch (error) {
        await end(conn, "read");
        throw error;
      }
      if (chunk !== null) {
        controller.enqueue(chunk);
        return;
      }
      controller.close();
      await end(conn, "read");
    },
    // Nobody wants the rest.
    cancel: () => end(conn, "read"),
  }, { highWaterMark: 0 });
}

/** Where to write. @internal */
export function writableOf(conn: Conn): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({
    async write(chunk) {
      try {
        await conn.write(chunk);
      } catch (error) {
        // A stream whose write failed is told of no other end.
        await end(conn, "write");
        throw error;
      }
    },
    async close() {
      try {
        await conn.closeWrite();
      } finally {
        await end(conn, "write");
      }
    },
    abort: () => conn.close(),
  });
}

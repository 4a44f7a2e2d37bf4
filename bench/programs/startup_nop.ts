/** The library imported, one ring made, one operation awaited, the ring closed. */

import { Uring } from "../../src/mod.ts";

const uring = new Uring();
await uring.nop();
await uring.disposeAsync();

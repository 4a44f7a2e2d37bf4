/**
 * Child processes that the runtime knows nothing of, and so does not wait for.
 *
 * @module
 */
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { addressOf } from "../../src/ffi/pin.ts";
import { libc } from "./libc.ts";

const SIGKILL = 9;
const SYS_PIDFD_OPEN = 434;

/** An array of C strings, and what keeps them. */
function strings(texts: readonly string[]): { bytes: Uint8Array; owners: readonly Uint8Array[] } {
  const owners = texts.map(cString);
  const words = new BigUint64Array(new ArrayBuffer((texts.length + 1) * 8));
  owners.forEach((owner, i) => words[i] = BigInt(addressOf(owner)));
  return { bytes: new Uint8Array(words.buffer), owners };
}

/** A child that runs a script of the shell's; killed and waited for at the end of its block, if nobody has. */
export class Child implements Disposable {
  readonly pid: number;

  constructor(script: string) {
    const pid = new Int32Array(new ArrayBuffer(4));
    const argv = strings(["sh", "-c", script]);
    const envp = strings(["PATH=/usr/bin:/bin"]);
    const failed = libc().posix_spawn(pid, cString("/bin/sh"), null, null, argv.bytes, envp.bytes);
    // Only addresses were passed: the texts are kept through the call by being used after it.
    if (argv.owners.length + envp.owners.length !== 4) throw new Error("unreachable");
    check(-failed, "posix_spawn");
    this.pid = pid[0]!;
  }

  /** Sends it a signal. */
  kill(signal: number): void {
    check(libc().kill(this.pid, signal), "kill");
  }

  /** A descriptor for it. */
  pidfd(): number {
    return check(libc().syscall(SYS_PIDFD_OPEN, this.pid, 0), "pidfd_open");
  }

  /** Whether somebody has waited for it. */
  get gone(): boolean {
    return libc().kill(this.pid, 0) < 0;
  }

  [Symbol.dispose](): void {
    if (this.gone) return;
    libc().kill(this.pid, SIGKILL);
    libc().waitpid(this.pid, null, 0);
  }
}

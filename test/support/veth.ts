/**
 * A pair of network devices, one of them in a network of its own: what is sent from one to the other takes the way through
 * the devices, and not the short one within the machine.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { AF_INET, O_CLOEXEC, O_RDONLY, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { sockaddr_in } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd } from "./descriptors.ts";
import { libc, openLibc } from "./libc.ts";
import { command, loadModule } from "./modules.ts";
import { ADDRESS_SIZE, portOf } from "./sockets.ts";

const NAMESPACE = "uring-lab";
const NEAR = "uringlab0";
const FAR = "uringlab1";
const FAR_HARDWARE = "02:00:0a:4d:00:02";
const CLONE_NEWNET = 0x4000_0000;

function open(path: string): Fd {
  return new Fd(check(system().rare.open(cString(path), O_RDONLY | O_CLOEXEC, 0), "open", { path }));
}

function address(last: number, port: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(ADDRESS_SIZE));
  const view = new DataView(bytes.buffer);
  view.setUint16(sockaddr_in.sin_family, AF_INET, true);
  view.setUint16(sockaddr_in.sin_port, port, false);
  bytes.set([10, 77, 0, last], sockaddr_in.sin_addr);
  return bytes;
}

function socket(): Fd {
  return new Fd(check(libc().socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
}

/** The pair. */
export class Veth implements Disposable {
  /** The device of this network. */
  readonly name: string = NEAR;
  /** Its number. */
  readonly index: number;

  constructor() {
    loadModule("veth");
    command("ip", "netns", "add", NAMESPACE);
    try {
      command("ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", NAMESPACE);
      command("ip", "addr", "add", "10.77.0.1/24", "dev", NEAR);
      command("ip", "link", "set", NEAR, "up");
      command("ip", "-n", NAMESPACE, "link", "set", FAR, "address", FAR_HARDWARE, "mtu", "65535");
      command("ip", "link", "set", NEAR, "mtu", "65535");
      command("ip", "-n", NAMESPACE, "addr", "add", "10.77.0.2/24", "dev", FAR);
      command("ip", "-n", NAMESPACE, "link", "set", FAR, "up");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.index = Number(readFileSync(`/sys/class/net/${NEAR}/ifindex`, "utf8"));
  }

  /** Does something with this thread in the other network. */
  #beyond<T>(act: () => T): T {
    const { setns } = openLibc({ setns: { result: "i32", args: ["i32", "i32"] } });
    using here = open("/proc/thread-self/ns/net");
    using there = open(`/run/netns/${NAMESPACE}`);
    check(setns(there.fd, CLONE_NEWNET), "setns");
    try {
      return act();
    } finally {
      check(setns(here.fd, CLONE_NEWNET), "setns");
    }
  }

  /** Has the other network's device throw away what comes, which is as if it went out over a wire. */
  swallow(): void {
    for (const name of ["sch_ingress", "cls_matchall", "act_gact"]) loadModule(name);
    command("tc", "-n", NAMESPACE, "qdisc", "add", "dev", FAR, "ingress");
    command("tc", "-n", NAMESPACE, "filter", "add", "dev", FAR, "ingress", "matchall", "action", "drop");
    // Nobody would answer when asked for it.
    command("ip", "neigh", "replace", "10.77.0.2", "lladdr", FAR_HARDWARE, "dev", NEAR);
  }

  /** How many bytes have left by the device of this network. */
  get sentBytes(): number {
    return Number(readFileSync(`/sys/class/net/${NEAR}/statistics/tx_bytes`, "utf8"));
  }

  /** A UDP socket that sends to the other network. */
  datagrams(): Fd {
    const made = new Fd(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
    check(libc().connect(made.fd, address(2, 7), ADDRESS_SIZE), "connect");
    return made;
  }

  /** A connection from this network to the other one. */
  connect(): { readonly near: Fd; readonly far: Fd } & Disposable {
    using listener = this.#beyond(socket);
    check(libc().bind(listener.fd, address(2, 0), ADDRESS_SIZE), "bind");
    check(libc().listen(listener.fd, 1), "listen");
    const near = socket();
    check(libc().connect(near.fd, address(2, portOf(listener.fd)), ADDRESS_SIZE), "connect");
    const far = new Fd(check(libc().accept4(listener.fd, null, null, SOCK_CLOEXEC), "accept4"));
    const close = (): void => {
      near.close();
      far.close();
    };
    return { near, far, [Symbol.dispose]: close };
  }

  [Symbol.dispose](): void {
    command("ip", "netns", "del", NAMESPACE);
  }
}

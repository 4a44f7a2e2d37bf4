/**
 * Whether there are extended attributes.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import { TempDir } from "./descriptors.ts";
import { blockOf, makeRing, once, path as rawPath } from "./rings.ts";

/** Why the file system of temporary files has no attributes, or `false`. */
export function missingXattrs(): string | false {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "");
  using ring = makeRing(1);
  const value = blockOf("x");
  const name = rawPath("user.test");
  const file = rawPath(dir.of("file"));
  const { res } = once(ring, (sqe) => sqe.prepSetxattr(name, value.address, file, 0, 1));
  return res === 0 ? false : `no extended attributes here: ${res}`;
}

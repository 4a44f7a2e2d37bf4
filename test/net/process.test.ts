/** How programs end that listen and connect, and that Deno needs `--allow-ffi` and nothing else for either module. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { IORING_OP_BIND } from "../../src/ffi/abi.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { output } from "../support/program.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_BIND);
const source = (module: string): string => new URL(`../../src/${module}/mod.ts`, import.meta.url).href;

/** What a program prints that imports both modules. */
async function outputOf(body: string): Promise<string> {
  using dir = new TempDir();
  const program = dir.of("program.ts");
  writeFileSync(
    program,
    `import { connect, listen } from "${source("net")}";
import { readFile, stat, writeFile } from "${source("fs")}";
void [connect, listen, readFile, stat, writeFile];
const { port } = body(listen({ port: 0, hostname: "127.0.0.1" }));
function body(listener: any): any {
  const { addr } = listener;
  ${body}
  return addr;
}
void port;
`,
  );
  return await output(program, []);
}

test("a listener that nobody waits at lets the program end", { skip }, async () => {
  assert.equal(await outputOf('console.log("listening");'), "listening\n");
});

test("unref lets a program end that waits for connections, and ref takes it back", { skip }, async () => {
  assert.equal(await outputOf('listener.accept(); listener.unref(); console.log("end");'), "end\n");
  assert.equal(await outputOf('listener.unref(); listener.accept(); console.log("end");'), "end\n");
  const back = `
    listener.unref();
    listener.accept().catch((error: { code: string }) => console.log(error.code));
    setTimeout(() => {
      listener.ref();
      setTimeout(() => listener.close(), 50);
    }, 20);`;
  assert.equal(await outputOf(back), "ECANCELED\n");
});

test(
  "a program that waits for a connection stays alive, and one that has closed all ends",
  { skip },
  async () => {
    const body = `
    const serving = (async () => {
      for await (const conn of listener) {
        await conn.readable.pipeTo(conn.writable);
        await listener.close();
      }
    })();
    void (async () => {
      await using conn = await connect({ port: addr.port });
      await conn.write("hello");
      await conn.closeWrite();
      for await (const chunk of conn) console.log(new TextDecoder().decode(chunk));
      await serving;
      console.log("end");
    })();`;
    assert.equal(await outputOf(body), "hello\nend\n");
  },
);

test("files with --allow-ffi alone", { skip }, async () => {
  const body = `
    void (async () => {
      const text = await readFile("/proc/self/comm", "utf8");
      const data = await readFile("/proc/self/comm");
      console.log(text === data.toString(), (await stat("/proc/self/comm")).isFile());
      await writeFile("/dev/null", "x");
    })();`;
  assert.equal(await outputOf(body), "true true\n");
});

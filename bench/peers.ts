/** Servers of others, as they are set up for measuring: one process, one thread, nothing written to disk. */

import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Command, MissingError } from "./child.ts";
import { CACHE } from "./environment.ts";
import { asServer, freePort, installed, type Server, startAt } from "./servers.ts";

/** `redis-server` without persistence. */
export async function redisServer(): Promise<Server> {
  const port = await freePort();
  const args = [
    "--port",
    String(port),
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--appendonly",
    "no",
    "--io-threads",
    "1",
  ];
  return await startAt(port, asServer({ program: redisProgram(), args }));
}

/** The package `redis-tools` has the server, too: it is the same program under another name. */
function redisProgram(): string {
  if (existsSync("/usr/bin/redis-server")) return "/usr/bin/redis-server";
  const link = join(CACHE, "redis-server");
  const target = installed("redis-check-rdb");
  mkdirSync(CACHE, { recursive: true });
  if (!existsSync(link)) symlinkSync(target, link);
  return link;
}

function nginxProgram(): string {
  const unpacked = process.env["NGINX"] ?? "";
  return existsSync(unpacked) ? unpacked : installed("nginx");
}

function nginx(name: string, config: string): Command {
  const prefix = join(CACHE, `nginx-${name}`);
  mkdirSync(prefix, { recursive: true });
  const file = join(prefix, "nginx.conf");
  const base = [
    "daemon off;",
    "master_process off;",
    `pid ${prefix}/pid;`,
    "events { worker_connections 16384; multi_accept on; }",
  ];
  writeFileSync(file, `${base.join("\n")}\n${config}\n`);
  return { program: nginxProgram(), args: ["-p", prefix, "-c", file, "-e", "stderr"] };
}

/** nginx with the files of a directory. */
export async function nginxFiles(directory: string): Promise<Server> {
  const port = await freePort();
  const config = `http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=1000;
    open_file_cache_valid 1s;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    types { text/plain txt; }
    server { listen 127.0.0.1:${port} backlog=4096; root ${directory}; }
  }`;
  return await startAt(port, asServer(nginx("files", config)));
}

/** nginx in front of a TCP server. */
export async function nginxStream(backend: number): Promise<Server> {
  const port = await freePort();
  const modules = nginxProgram().replace(/sbin\/nginx$/, "lib/nginx/modules/ngx_stream_module.so");
  if (!existsSync(modules)) throw new MissingError("no ngx_stream_module.so");
  const config = `load_module ${modules};
  stream {
    server { listen 127.0.0.1:${port}; proxy_pass 127.0.0.1:${backend}; proxy_buffer_size 64k; tcp_nodelay on; }
  }`;
  // A module has to be named before everything else.
  const [first = "", ...rest] = config.split("\n");
  const command = nginx("stream", rest.join("\n"));
  return await startAt(port, asServer({ ...command, args: [...command.args, "-g", first] }));
}

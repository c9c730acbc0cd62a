// Compiles SwarmRegistry.sol into the artifact that Python reads. The same source gives the same bytes on every machine.
//
//   node build.mjs          writes swarm/chain/artifacts/SwarmRegistry.json
//   node build.mjs --check  fails if that file is not what the source gives

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const name = "SwarmRegistry";
const sourceName = `src/${name}.sol`;
const artifactPath = join(here, "..", "swarm", "chain", "artifacts", `${name}.json`);
const settings = { optimizer: { enabled: true, runs: 200 }, evmVersion: "cancun" };

function fail(message) {
  console.error(message);
  process.exit(1);
}

function compile(source) {
  const input = {
    language: "Solidity",
    sources: { [sourceName]: { content: source } },
    settings: { ...settings, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const messages = (output.errors ?? []).filter((entry) => entry.severity !== "info");
  if (messages.length > 0) fail(messages.map((entry) => entry.formattedMessage).join("\n"));
  return output.contracts[sourceName][name];
}

const source = readFileSync(join(here, sourceName), "utf8");
const contract = compile(source);
const artifact = {
  contract: name,
  compiler: solc.version(),
  settings,
  source: sourceName,
  sourceSha256: createHash("sha256").update(source).digest("hex"),
  abi: contract.abi,
  bytecode: `0x${contract.evm.bytecode.object}`,
};
const text = `${JSON.stringify(artifact, null, 2)}\n`;

if (process.argv.includes("--check")) {
  if (!existsSync(artifactPath) || readFileSync(artifactPath, "utf8") !== text) {
    fail(`the artifact of ${name} is not what ${sourceName} gives; build it again with: node contracts/build.mjs`);
  }
  console.log(`${name}: the artifact matches its source`);
} else {
  mkdirSync(dirname(artifactPath), { recursive: true });
  writeFileSync(artifactPath, text);
  console.log(`${name}: ${(artifact.bytecode.length - 2) / 2} bytes of creation code, ${artifact.compiler}`);
}

// Compiles the contract into the artifact that Python reads. The same sources give the same bytes on every machine.
//
//   node build.mjs          writes swarm/chain/artifacts/SwarmRegistry.json
//   node build.mjs --check  fails if that file is not what the sources give

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const name = "SwarmRegistry";
const artifactPath = join(here, "..", "swarm", "chain", "artifacts", `${name}.json`);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  viaIR: true, // without it the code is larger than a chain takes
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none" }, // a comment does not change the code
};
const MAX_RUNTIME_BYTES = 24576; // EIP-170

function fail(message) {
  console.error(message);
  process.exit(1);
}

function read(path) {
  return readFileSync(join(here, path), "utf8");
}

function findImport(path) {
  try {
    return { contents: read(join("node_modules", path)) };
  } catch (error) {
    return { error: error.message };
  }
}

function compile(sources) {
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(sources.map((path) => [path, { content: read(path) }])),
    settings: {
      ...settings,
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  const messages = (output.errors ?? []).filter(
    (entry) => entry.severity === "error" || (entry.severity === "warning" && sources.includes(entry.sourceLocation?.file)),
  );
  if (messages.length > 0) fail(messages.map((entry) => entry.formattedMessage).join("\n"));
  return output.contracts[`src/${name}.sol`][name];
}

// The hash of all own sources, as tests/chain computes it: every path and text, each after its length.
function hashOf(sources) {
  const hash = createHash("sha256");
  for (const part of sources.flatMap((path) => [path, read(path)])) {
    hash.update(`${Buffer.byteLength(part)}\n${part}`);
  }
  return hash.digest("hex");
}

const sources = readdirSync(join(here, "src")).sort().map((file) => `src/${file}`);
const contract = compile(sources);
const artifact = {
  contract: name,
  compiler: solc.version(),
  openzeppelin: JSON.parse(read("node_modules/@openzeppelin/contracts/package.json")).version,
  settings,
  sources,
  sourceSha256: hashOf(sources),
  abi: contract.abi,
  bytecode: `0x${contract.evm.bytecode.object}`,
};
const text = `${JSON.stringify(artifact, null, 2)}\n`;
const runtimeBytes = contract.evm.deployedBytecode.object.length / 2;
if (runtimeBytes > MAX_RUNTIME_BYTES) fail(`${name} has ${runtimeBytes} bytes of code, and a chain takes ${MAX_RUNTIME_BYTES}`);

if (process.argv.includes("--check")) {
  if (!existsSync(artifactPath) || readFileSync(artifactPath, "utf8") !== text) {
    fail(`the artifact of ${name} is not what contracts/src gives; build it again with: make contracts`);
  }
  console.log(`${name}: the artifact matches its sources`);
} else {
  mkdirSync(dirname(artifactPath), { recursive: true });
  writeFileSync(artifactPath, text);
  console.log(`${name}: ${runtimeBytes} of ${MAX_RUNTIME_BYTES} bytes of code, ${artifact.compiler}`);
}

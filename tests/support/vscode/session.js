// What a user does in VS Code: node session.js EXTENSION FOLDER COMMAND..., with NODE_PATH naming the extension's modules.
// The extension and vscode-languageclient are the real ones; what was seen is printed as JSON.
"use strict";
const fs = require("fs");
const Module = require("module");
const path = require("path");
const { openEditor, Position, Range } = require("./editor.js");

const [extension, folder, ...command] = process.argv.slice(2);
const editor = openEditor({ folder, settings: { command, target: "triton", image: "24.09", runDefinitions: false } });
const load = Module._load;
Module._load = (name, ...rest) => (name === "vscode" ? editor.module : load.call(Module, name, ...rest));

async function wait(what, condition) {
  for (const end = Date.now() + 30000; !condition();) {
    if (Date.now() > end) throw new Error(`time is over: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function main() {
  const { activate, deactivate } = require(path.join(extension, "extension.js"));
  const file = path.join(folder, "e", "config.pbtxt");
  const text = fs.readFileSync(file, "utf8");
  await activate({ subscriptions: [] });
  const document = editor.open(file, "pbtxt", text);
  const read = () => editor.diagnostics.get(document.uri.toString()) ?? [];
  await wait("findings", () => read().length > 0);
  const token = { isCancellationRequested: false, onCancellationRequested: () => ({ dispose() {} }) };
  const seen = { codes: read().map((item) => item.code?.value ?? item.code), page: read()[0].code?.target?.toString() };
  const start = new Range(0, 0, 0, 0);
  const actions = await editor.providers.registerCodeActionsProvider.provideCodeActions(document, start, { diagnostics: read() }, token);
  seen.actions = actions.map((action) => ({ kind: action.kind.value, created: action.edit.created, edited: [...action.edit.edits.keys()] }));
  const key = new Position(0, text.indexOf('key: "A"') + 6);
  const proposals = await editor.providers.registerCompletionItemProvider.provideCompletionItems(document, key, token, { triggerKind: 0 });
  seen.proposals = (proposals.items ?? proposals).map((item) => item.label);
  const model = new Position(0, text.indexOf('model_name: "x"') + 13);
  const hover = await editor.providers.registerHoverProvider.provideHover(document, model, token);
  seen.hover = hover.contents.map((content) => content.value).join("\n");
  const places = await editor.providers.registerDefinitionProvider.provideDefinition(document, model, token);
  seen.definition = [places].flat().map((place) => (place.uri ?? place.targetUri).toString());
  await editor.type(document, text.replace('name: "old" ', ""));
  await wait("fewer findings", () => read().length < seen.codes.length);
  editor.diagnostics.clear();
  editor.settings.image = "26.05"; // the extension starts the server again, which gets the open documents
  await editor.fire("onDidChangeConfiguration", { affectsConfiguration: (name) => name === "tritonforge" });
  await wait("findings of a new server", () => read().length > 0);
  seen.after = read().map((item) => item.code?.value ?? item.code);
  await deactivate();
  process.stdout.write(JSON.stringify(seen));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });

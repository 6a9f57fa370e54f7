// Starts `tritonforge lsp` and connects it with the editor.
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function readOptions() {
  const settings = vscode.workspace.getConfiguration("tritonforge");
  const options = { target: settings.get("target"), runDefinitions: false };
  options.runDefinitions = vscode.workspace.isTrusted && settings.get("runDefinitions");
  const image = settings.get("image");
  return image ? { ...options, image } : options;
}

async function start() {
  const [command, ...args] = vscode.workspace.getConfiguration("tritonforge").get("command");
  client = new LanguageClient(
    "tritonforge",
    "tritonforge",
    { command, args },
    {
      documentSelector: [
        { scheme: "file", pattern: "**/*.pbtxt" },
        { scheme: "file", pattern: "**/*.py" },
      ],
      initializationOptions: readOptions,
    },
  );
  await client.start();
}

exports.activate = async (context) => {
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration(async (event) => {
      if (event.affectsConfiguration("tritonforge")) {
        await client?.stop();
        await start();
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(async () => {
      await client?.stop();
      await start();
    }),
  );
  await start();
};

exports.deactivate = () => client?.stop();

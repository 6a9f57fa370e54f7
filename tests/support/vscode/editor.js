// A stand-in for the module `vscode`, which exists inside of VS Code only: what vscode-languageclient calls of it.
// Documents, settings and what providers return are those of a test; names without a meaning here are empty classes.
"use strict";

class Position {
  constructor(line, character) { this.line = line; this.character = character; }
}
class Range {
  constructor(...bounds) {
    [this.start, this.end] = bounds.length === 2 ? bounds
      : [new Position(bounds[0], bounds[1]), new Position(bounds[2], bounds[3])];
  }
}
class Uri {
  constructor(text) { this.text = text; this.scheme = text.split(":")[0]; this.path = decodeURIComponent(new URL(text).pathname); }
  static parse(text) { return new Uri(text); }
  static file(path) { return new Uri(require("url").pathToFileURL(path).href); }
  get fsPath() { return this.path; }
  toString() { return this.text; }
}
class EventEmitter {
  constructor() { this.listeners = new Set(); this.event = (call, self) => { const bound = call.bind(self); this.listeners.add(bound); return { dispose: () => this.listeners.delete(bound) }; }; }
  fire(value) { return Promise.all([...this.listeners].map((call) => call(value))); }
  dispose() { this.listeners.clear(); }
}
class CodeActionKind {
  constructor(value) { this.value = value; }
  append(part) { return new CodeActionKind(this.value ? `${this.value}.${part}` : part); }
}
for (const [name, value] of Object.entries({ Empty: "", QuickFix: "quickfix", Refactor: "refactor", RefactorExtract: "refactor.extract",
  RefactorInline: "refactor.inline", RefactorRewrite: "refactor.rewrite", Source: "source", SourceOrganizeImports: "source.organizeImports" })) {
  CodeActionKind[name] = new CodeActionKind(value);
}
class WorkspaceEdit {
  constructor() { this.created = []; this.edits = new Map(); }
  createFile(uri) { this.created.push(uri.toString()); }
  set(uri, edits) { this.edits.set(uri.toString(), edits); }
  replace(uri, range, newText) { this.set(uri, [...(this.edits.get(uri.toString()) ?? []), { range, newText }]); }
}
class Diagnostic {
  constructor(range, message, severity) { Object.assign(this, { range, message, severity }); }
}
class Hover {
  constructor(contents, range) { Object.assign(this, { contents: [contents].flat(), range }); }
}
class MarkdownString {
  constructor(value = "") { this.value = value; }
  appendMarkdown(text) { this.value += text; return this; }
  appendCodeblock(text) { this.value += text; return this; }
}
class TextEdit {
  constructor(range, newText) { Object.assign(this, { range, newText }); }
}
class Location {
  constructor(uri, range) { Object.assign(this, { uri, range }); }
}
class CompletionItem {
  constructor(label) { this.label = label; }
}
class CodeAction {
  constructor(title, kind) { Object.assign(this, { title, kind }); }
}
class CancellationTokenSource {
  constructor() { this.token = { isCancellationRequested: false, onCancellationRequested: () => ({ dispose() {} }) }; }
  cancel() {}
  dispose() {}
}

/** A document of the editor; `text` is what is typed. */
class TextDocument {
  constructor(path, languageId, text) { Object.assign(this, { uri: Uri.file(path), languageId, text, version: 1, isClosed: false, fileName: path }); }
  getText() { return this.text; }
}

/** Return the module, and what a test does to it. */
function openEditor({ settings, folder }) {
  const events = {}, providers = {}, diagnostics = new Map(), documents = [];
  const emitter = (name) => (events[name] ??= new EventEmitter());
  const configuration = { get: (name, other) => settings[name] ?? other, has: (name) => name in settings, inspect: () => undefined };
  const matches = (selector, document) => [selector].flat().some((filter) =>
    (!filter.scheme || filter.scheme === document.uri.scheme) && (!filter.language || filter.language === document.languageId) &&
    (!filter.pattern || document.uri.path.endsWith(String(filter.pattern).replace("**/*", ""))));
  const channel = new Proxy({}, { get: (_, name) => (name === "name" ? "tritonforge" : () => {}) });
  const withEvents = (members) => new Proxy(members, {
    get: (target, name) => name in target ? target[name] : /^on(Did|Will)/.test(name) ? emitter(name).event : undefined,
  });
  const known = {
    version: "1.91.0", Position, Range, Uri, EventEmitter, CodeActionKind, WorkspaceEdit, Diagnostic, Hover, MarkdownString,
    TextEdit, Location, CompletionItem, CodeAction, CancellationTokenSource, CancellationError: class extends Error {},
    DiagnosticSeverity: { Error: 0, Warning: 1, Information: 2, Hint: 3 },
    Disposable: class { constructor(call) { this.dispose = call; } static from(...all) { return { dispose: () => all.forEach((one) => one.dispose()) }; } },
    env: { language: "en", appName: "a test", openExternal() {} },
    commands: { registerCommand: () => ({ dispose() {} }) },
    window: withEvents({
      createOutputChannel: () => channel, activeTextEditor: undefined, tabGroups: { all: [], ...withEvents({}), onDidChangeTabs: emitter("tabs").event },
      showErrorMessage: (text) => { throw new Error(text); }, showWarningMessage() {}, showInformationMessage() {}, visibleTextEditors: [],
    }),
    workspace: withEvents({
      isTrusted: true, textDocuments: documents, notebookDocuments: [], fs: {}, name: "test",
      workspaceFolders: [{ uri: Uri.file(folder), name: "test", index: 0 }],
      getWorkspaceFolder: () => undefined, getConfiguration: () => configuration,
      createFileSystemWatcher: () => withEvents({ dispose() {}, onDidCreate: emitter("create").event, onDidChange: emitter("change").event, onDidDelete: emitter("delete").event }),
    }),
    languages: new Proxy({
      match: (selector, document) => (matches(selector, document) ? 10 : 0),
      createDiagnosticCollection: () => ({
        set: (uri, listed) => diagnostics.set(uri.toString(), listed ?? []), delete: (uri) => diagnostics.delete(uri.toString()),
        clear: () => diagnostics.clear(), has: (uri) => diagnostics.has(uri.toString()), get: (uri) => diagnostics.get(uri.toString()), dispose() {},
      }),
    }, {
      get: (target, name) => target[name] ?? ((selector, provider) => { providers[name] = provider; return { dispose: () => delete providers[name] }; }),
    }),
  };
  const module = new Proxy(known, {
    get: (target, name) => target[name] ?? (target[name] = new Proxy(class {}, { get: (kind, member) => kind[member] ?? (member === "prototype" ? kind.prototype : 0) })),
  });
  return {
    module, providers, diagnostics, settings, fire: (name, value) => emitter(name).fire(value),
    open(path, languageId, text) {
      const document = new TextDocument(path, languageId, text);
      documents.push(document);
      emitter("onDidOpenTextDocument").fire(document);
      return document;
    },
    type(document, text) {
      Object.assign(document, { text, version: document.version + 1 });
      return emitter("onDidChangeTextDocument").fire({ document, contentChanges: [{ text }] });
    },
  };
}

module.exports = { openEditor, Position, Range };

"""The language server of the command `tritonforge lsp`: findings, completion, hover and more while a file is edited."""

//! Starts `tritonforge lsp` for Zed.

use zed_extension_api::{self as zed, settings::LspSettings, LanguageServerId, Result, Worktree};

struct Tritonforge;

impl zed::Extension for Tritonforge {
    fn new() -> Self {
        Tritonforge
    }

    fn language_server_command(&mut self, _: &LanguageServerId, worktree: &Worktree) -> Result<zed::Command> {
        let command = worktree
            .which("tritonforge")
            .ok_or("tritonforge is not on the PATH; run: pip install 'tritonforge[lsp]'")?;
        Ok(zed::Command { command, args: vec!["lsp".into()], env: worktree.shell_env() })
    }

    fn language_server_initialization_options(
        &mut self,
        _: &LanguageServerId,
        worktree: &Worktree,
    ) -> Result<Option<zed::serde_json::Value>> {
        LspSettings::for_worktree("tritonforge", worktree).map(|settings| settings.initialization_options)
    }
}

zed::register_extension!(Tritonforge);

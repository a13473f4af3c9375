//! The program and its pages in; the tree of files as it lies on a node out, and that as a tar.

use crate::dist::DOC;
use crate::dist::names;
use crate::step::root;
use crate::step::run;
use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Files of the workspace, and where they lie on a node.
const FILES: [(&str, &str); 6] = [
    ("systemd/tachograph.service", "usr/lib/systemd/system/tachograph.service"),
    ("systemd/tachograph.sysusers.conf", "usr/lib/sysusers.d/tachograph.conf"),
    ("systemd/tachograph.env", "etc/tachograph/tachograph.env"),
    ("README.md", "usr/share/doc/tachograph/README.md"),
    ("LICENSE", "usr/share/doc/tachograph/LICENSE"),
    ("agent/METRICS.md", "usr/share/doc/tachograph/METRICS.md"),
];

/// Files of shells: as they are called where they are made, and where those look for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("tachograph.bash", "usr/share/bash-completion/completions/tachograph"),
    ("tachograph.fish", "usr/share/fish/vendor_completions.d/tachograph.fish"),
    ("_tachograph", "usr/share/zsh/site-functions/_tachograph"),
];

/// Lays everything out below `tree`; `written` lies beside the other pages for people.
pub(super) fn stage(tree: &Path, agent: &Path, pages: &Path, written: &[(&str, String)]) -> Result<PathBuf> {
    install(agent, &tree.join("usr/bin/tachograph"), 0o755)?;
    for (from, to) in FILES {
        install(&root().join(from), &tree.join(to), 0o644)?;
    }
    for (from, to) in COMPLETIONS {
        install(&pages.join("completions").join(from), &tree.join(to), 0o644)?;
    }
    for page in names(&pages.join("man"))? {
        install(&pages.join("man").join(&page), &tree.join("usr/share/man/man1").join(&page), 0o644)?;
    }
    for (name, text) in written {
        let file = tree.join(DOC).join(name);
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(tree.to_owned())
}

/// Copies a file, whatever the umask is.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

/// Packs the tree's files: no folders, so that unpacking over a system changes none of its own.
pub(super) fn tar(tree: &Path, to: &Path, epoch: u64) -> Result<()> {
    let [above, name] = [tree.parent(), tree.file_name().map(Path::new)].map(|part| part.context("no folder"));
    let (above, name) = (above?, name?);
    let list = above.join("files");
    let files: Vec<String> = files(tree)?.iter().map(|file| name.join(file).display().to_string()).collect();
    fs::write(&list, files.join("\n")).with_context(|| list.display().to_string())?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--use-compress-program=gzip --best --no-name", "--format=ustar", "--owner=root:0"]);
    tar.args(["--group=root:0", &format!("--mtime=@{epoch}"), "--directory"]).arg(above).arg("--files-from").arg(&list);
    run(tar.arg("--file").arg(to))
}

/// All files below a folder, by their paths in it, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(files(&path)?.into_iter().map(|below| Path::new(&name).join(below)));
        } else {
            found.push(PathBuf::from(name));
        }
    }
    Ok(found)
}

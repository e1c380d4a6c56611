//! Completion scripts for shells, made from the table of commands.

use super::find::Found;
use super::tree::{Command, ROOT};

/// The script for a shell; `None` when it is not known.
pub(crate) fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(format!("#compdef etcdctl\nautoload -U +X bashcompinit && bashcompinit\n{}", bash())),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// Every command by its words, with the words that may follow.
fn entries() -> Vec<(Vec<&'static Command>, Vec<String>)> {
    let mut entries = Vec::new();
    let mut open: Vec<Vec<&'static Command>> = vec![vec![&ROOT]];
    while let Some(path) = open.pop() {
        let found = Found { path: path.clone(), words: Vec::new() };
        let command = found.command();
        let mut next: Vec<String> = command.children.iter().map(|child| child.name.to_owned()).collect();
        next.extend(found.flags().iter().map(|flag| format!("--{}", flag.name)));
        for child in command.children {
            open.push(path.iter().copied().chain([child]).collect());
        }
        entries.push((path, next));
    }
    entries.sort_by_key(|(path, _)| words(path));
    entries
}

fn words(path: &[&Command]) -> String {
    path[1..].iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut script = String::from(
        "_etcdctl() {\n    local word path=\"\" candidates\n    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n        \
         case \"$word\" in\n            -*) ;;\n            *) path=\"${path:+$path }$word\" ;;\n        esac\n    done\n    \
         case \"$path\" in\n",
    );
    for (path, next) in entries() {
        let pattern = if path.len() == 1 {
            "\"\"".to_owned()
        } else if path[path.len() - 1].children.is_empty() {
            format!("\"{}\"*", words(&path))
        } else {
            format!("\"{}\"", words(&path))
        };
        script.push_str(&format!("        {pattern}) candidates=\"{}\" ;;\n", next.join(" ")));
    }
    script.push_str(
        "        *) candidates=\"\" ;;\n    esac\n    COMPREPLY=($(compgen -W \"$candidates\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n\
         complete -o default -F _etcdctl etcdctl\n",
    );
    script
}

fn fish() -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut script = String::new();
    for (path, _) in entries() {
        let (command, condition) = (path[path.len() - 1], words(&path));
        for child in command.children {
            let when = if condition.is_empty() {
                "__fish_use_subcommand".to_owned()
            } else {
                let others: Vec<&str> = command.children.iter().map(|child| child.name).collect();
                format!(
                    "__fish_seen_subcommand_from {condition}; and not __fish_seen_subcommand_from {}",
                    others.join(" ")
                )
            };
            script.push_str(&format!(
                "complete -c etcdctl -f -n '{when}' -a '{}' -d '{}'\n",
                child.name,
                quoted(child.short)
            ));
        }
        for flag in command.flags.iter().chain(command.persistent) {
            let when = match path.len() {
                1 => String::new(),
                _ => format!(" -n '__fish_seen_subcommand_from {}'", command.name),
            };
            script.push_str(&format!("complete -c etcdctl{when} -l '{}' -d '{}'\n", flag.name, quoted(flag.usage)));
        }
    }
    script
}

//! Every kind of fault is found, named and saved.

use std::process::Command;

fn fuzz(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_eyrie-fuzz")).args(args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn is_found(target: &str, words: &str) {
    let (success, said) = fuzz(&[target, "--seconds", "20"]);
    assert!(!success, "{said}");
    assert!(said.contains(&format!("FINDING in {target}")) && said.contains(words), "{said}");
    let path = said.lines().find_map(|line| line.trim().strip_prefix("Saved as ")).expect("a saved input");
    assert!(std::fs::metadata(path).unwrap().len() >= 8, "the saved input is the one that did it");
}

#[test]
fn a_panic() {
    is_found("faulty-panic", "too long for me");
}

#[test]
fn a_stall() {
    is_found("faulty-stall", "no answer after");
}

#[test]
fn a_stack_overflow() {
    is_found("faulty-stack", "overflowed its stack");
}

#[test]
fn a_growth_of_memory() {
    is_found("faulty-memory", "one input makes memory grow");
}

#[test]
fn a_saved_input_does_it_again() {
    let (_, said) = fuzz(&["faulty-panic", "--seconds", "20"]);
    let path = said.lines().find_map(|line| line.trim().strip_prefix("Saved as ")).expect("a saved input");
    let (success, said) = fuzz(&["faulty-panic", "--replay", path]);
    assert!(!success && said.contains("too long for me"), "{said}");
}

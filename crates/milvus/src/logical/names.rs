//! Which collections are meant, and what they are to be called.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The database that is meant where none is named.
pub const DEFAULT_DATABASE: &str = "default";

/// A collection with its database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
}

impl CollectionName {
    /// From both parts; an empty database is the default one.
    pub fn new(database: &str, name: &str) -> CollectionName {
        let database = if database.is_empty() { DEFAULT_DATABASE } else { database };
        CollectionName { database: database.into(), name: name.into() }
    }

    /// Reads `name` or `database.name`.
    fn parse(text: &str) -> CollectionName {
        match text.split_once('.') {
            Some((database, name)) => CollectionName::new(database, name),
            None => CollectionName::new("", text),
        }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// Which collections are meant. The empty one means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    databases: BTreeMap<String, Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    These(BTreeSet<String>),
}

impl Filter {
    /// Reads a list with commas of `name`, `database.name`, `database.*` and `database.` (the database without collections).
    ///
    /// # Errors
    /// Names the piece that is none of these.
    pub fn parse(text: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
            let name = CollectionName::parse(piece);
            if name.name.contains('.') || (name.name.is_empty() && !piece.ends_with('.')) {
                return Err(format!("`{piece}` in a filter: write collection, database.collection or database.*"));
            }
            match name.name.as_str() {
                "*" => filter.add_database(&name.database),
                "" => filter.add_empty(&name.database),
                _ => filter.add(&name),
            }
        }
        Ok(filter)
    }

    /// Reads milvus-backup's `--database_collections`: `{"database": ["collection", …]}`; no collections mean all of them.
    ///
    /// # Errors
    /// Says what the text should look like.
    pub fn parse_json(text: &str) -> Result<Filter, String> {
        let wanted: BTreeMap<String, Vec<String>> = serde_json::from_str(text)
            .map_err(|error| format!("`{text}`: {error}; it looks like {{\"database\": [\"collection\"]}}"))?;
        let mut filter = Filter::default();
        for (database, names) in wanted {
            let database = CollectionName::new(&database, "").database;
            if names.is_empty() {
                filter.add_database(&database);
            }
            names.iter().for_each(|name| filter.add(&CollectionName::new(&database, name)));
        }
        Ok(filter)
    }

    /// Means this collection too.
    pub fn add(&mut self, name: &CollectionName) {
        let wanted = self.databases.entry(name.database.clone()).or_insert_with(|| Wanted::These(BTreeSet::new()));
        if let Wanted::These(names) = wanted {
            names.insert(name.name.clone());
        }
    }

    /// Means all of this database too.
    pub fn add_database(&mut self, database: &str) {
        self.databases.insert(database.to_owned(), Wanted::All);
    }

    fn add_empty(&mut self, database: &str) {
        self.databases.entry(database.to_owned()).or_insert_with(|| Wanted::These(BTreeSet::new()));
    }

    /// Whether it means everything.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    /// Whether it means this collection.
    pub fn has(&self, name: &CollectionName) -> bool {
        match self.databases.get(&name.database) {
            None => self.is_empty(),
            Some(Wanted::All) => true,
            Some(Wanted::These(names)) => names.contains(&name.name),
        }
    }

    /// Whether it means something of this database, or the database itself.
    pub fn has_database(&self, database: &str) -> bool {
        self.is_empty() || self.databases.contains_key(database)
    }

    /// The collections that are named one by one: if one is missing, that is an error and not an empty result.
    pub fn named(&self) -> impl Iterator<Item = CollectionName> + '_ {
        self.databases.iter().flat_map(|(database, wanted)| {
            let names = match wanted {
                Wanted::All => None,
                Wanted::These(names) => Some(names),
            };
            names.into_iter().flatten().map(move |name| CollectionName::new(database, name))
        })
    }
}

/// One rule of renaming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rename {
    /// One collection gets another name, or database, or both.
    Collection(CollectionName, CollectionName),
    /// All of a database go to another one.
    Database(String, String),
}

/// What restored collections are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renames {
    /// Rules; the one for a single collection goes before that for its database.
    pub rules: Vec<Rename>,
    /// What is appended to the name of each collection that no rule names.
    pub suffix: String,
}

impl Renames {
    /// Reads `old:new` pairs with commas, where both are `collection`, `database.collection`, or both `database.*`.
    ///
    /// # Errors
    /// Names the pair that is none.
    pub fn parse(rules: &str, suffix: &str) -> Result<Renames, String> {
        let pieces = rules.split(',').map(str::trim).filter(|piece| !piece.is_empty());
        let rules: Result<Vec<Rename>, String> = pieces.map(rule).collect();
        let bad = suffix.bytes().any(|c| !c.is_ascii_alphanumeric() && c != b'_');
        if bad {
            return Err(format!("`{suffix}` can't be a suffix: names of collections have letters, digits and `_`"));
        }
        Ok(Renames { rules: rules?, suffix: suffix.to_owned() })
    }

    /// What a collection of a backup is to be called.
    pub fn apply(&self, from: &CollectionName) -> CollectionName {
        let single = self.rules.iter().find_map(|rule| match rule {
            Rename::Collection(old, new) if old == from => Some(new.clone()),
            _ => None,
        });
        if let Some(new) = single {
            return new;
        }
        let database = self.rules.iter().find_map(|rule| match rule {
            Rename::Database(old, new) if *old == from.database => Some(new.clone()),
            _ => None,
        });
        let database = database.unwrap_or_else(|| from.database.clone());
        CollectionName { database, name: format!("{}{}", from.name, self.suffix) }
    }
}

fn rule(piece: &str) -> Result<Rename, String> {
    let wrong = || format!("`{piece}` in --rename: write old:new, database.old:database.new or database.*:database.*");
    let (old, new) = piece.split_once(':').ok_or_else(wrong)?;
    let (old, new) = (CollectionName::parse(old.trim()), CollectionName::parse(new.trim()));
    match (old.name.as_str(), new.name.as_str()) {
        ("*", "*") => Ok(Rename::Database(old.database, new.database)),
        ("*" | "", _) | (_, "*" | "") => Err(wrong()),
        (old_name, new_name) if old_name.contains([':', '.']) || new_name.contains([':', '.']) => Err(wrong()),
        _ => Ok(Rename::Collection(old, new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CollectionName {
        CollectionName::parse(text)
    }

    #[test]
    fn filters_mean_what_is_typed() {
        let filter = Filter::parse("a, x.b,y.*,z.").unwrap();
        for (text, meant) in [("a", true), ("b", false), ("x.b", true), ("x.a", false), ("y.q", true), ("z.q", false)] {
            assert_eq!(filter.has(&name(text)), meant, "{text}");
        }
        assert!(filter.has_database("z") && !filter.has_database("w"));
        assert_eq!(filter.named().map(|n| n.to_string()).collect::<Vec<_>>(), ["default.a", "x.b"]);
        assert!(Filter::parse("").unwrap().has(&name("any.thing")));
        assert!(Filter::parse("a.b.c").unwrap_err().contains("a.b.c"));
        let json = Filter::parse_json(r#"{"":["a"],"db":[]}"#).unwrap();
        assert!(json.has(&name("a")) && !json.has(&name("b")) && json.has(&name("db.any")));
        assert!(Filter::parse_json("a").unwrap_err().contains("looks like"));
    }

    #[test]
    fn a_rule_for_one_collection_goes_before_its_database_and_the_suffix() {
        let renames = Renames::parse("old.*:new.*, old.b:z.c,d:e", "_r").unwrap();
        let apply = |text: &str| renames.apply(&name(text)).to_string();
        assert_eq!(apply("old.a"), "new.a_r");
        assert_eq!(apply("old.b"), "z.c");
        assert_eq!(apply("d"), "default.e");
        assert_eq!(apply("f"), "default.f_r");
        for wrong in ["a", "a:", ":b", "x.*:b", "a:b:c", "a.b.c:d"] {
            assert!(Renames::parse(wrong, "").is_err(), "{wrong}");
        }
        assert!(Renames::parse("", "-bad").is_err());
    }
}

//! Rows, deletes, schemas and logs of a bucket whose metadata is gone: histories at random, and every kind of mistake.

mod rows {
    use std::collections::BTreeSet;

    use eyrie_milvus::salvage::{Census, Choice, Key, KeySum, Slice, Tally};

    /// Rows by key and time, and deletes, of one segment.
    #[derive(Clone, Default)]
    struct Segment {
        rows: Vec<(i64, u64)>,
        deletes: Vec<(i64, u64)>,
    }

    fn segment(rows: &[(i64, u64)], deletes: &[(i64, u64)]) -> Segment {
        Segment { rows: rows.to_vec(), deletes: deletes.to_vec() }
    }

    fn census(segments: &[Segment], slice: Slice) -> Census {
        let mut census = Census::new(slice);
        for (n, segment) in segments.iter().enumerate() {
            for (place, (key, at)) in segment.rows.iter().enumerate() {
                census.row(n as u32, place as u32, &Key::Number(*key), *at);
            }
            segment.deletes.iter().for_each(|(key, at)| census.delete(&Key::Number(*key), *at));
        }
        census
    }

    /// The choice, and what is taken: segment, key, time.
    fn choose(segments: &[Segment], of: u64) -> (Choice, Vec<(u32, i64, u64)>) {
        let mut tally = Tally::default();
        for nth in 0..of {
            census(segments, Slice { nth, of }).tally(segments.len(), &mut tally).unwrap();
        }
        let rows: Vec<u64> = segments.iter().map(|segment| segment.rows.len() as u64).collect();
        let choice = Choice::of(&tally, &rows);
        let (mut taken, mut sum) = (Vec::new(), KeySum::default());
        for nth in 0..of {
            sum.and(census(segments, Slice { nth, of }).kept(&choice, |segment, place| {
                let (key, at) = segments[segment as usize].rows[place as usize];
                taken.push((segment, key, at));
            }));
        }
        taken.sort_unstable();
        let mut again = KeySum::default();
        taken.iter().for_each(|(_, key, _)| again.add(&Key::Number(*key)));
        assert_eq!(sum, again);
        assert_eq!(choice.rows(), taken.len() as u64);
        (choice, taken)
    }

    fn by(segments: &[u32]) -> BTreeSet<u32> {
        segments.iter().copied().collect()
    }

    /// Whatever the ids are: on a real Milvus an output may have a lower one than its inputs.
    #[test]
    fn a_hundred_rows_never_become_two_hundred() {
        let old = segment(&[(1, 10), (2, 10), (3, 10)], &[(2, 20)]);
        let other = segment(&[(4, 11)], &[]);
        let merged = segment(&[(1, 10), (3, 10), (4, 11)], &[(3, 30)]);
        let fresh = segment(&[(2, 40)], &[]);
        for at in 0..4 {
            let mut all = vec![old.clone(), other.clone(), fresh.clone()];
            all.insert(at, merged.clone());
            let (choice, taken) = choose(&all, 1);
            let rows: Vec<_> = taken.iter().map(|(_, key, at)| (*key, *at)).collect();
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [(1, 10), (2, 40), (4, 11)]);
            let share = &choice.shares()[at];
            assert_eq!((share.alive, share.own, share.dead, share.alone), (2, 2, 1, 0));
            let left: Vec<_> = (0..4).filter(|n| choice.rank(*n as u32).is_none()).collect();
            assert_eq!(left.len(), 2, "the inputs give nothing");
            assert!(left.iter().all(|n| choice.shares()[*n].elsewhere == by(&[at as u32])));
        }
    }

    #[test]
    fn an_upsert_keeps_its_row_and_a_later_insert_lives() {
        // Deleted and written at the same time; deleted, and written again later; deleted before it was written.
        let all =
            [segment(&[(1, 10), (1, 20), (2, 10), (2, 31)], &[(1, 20), (2, 30), (9, 5)]), segment(&[(9, 6)], &[])];
        let (_, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 20), (0, 2, 31), (1, 9, 6)]);
    }

    #[test]
    fn a_delete_anywhere_holds_for_every_segment() {
        let all = [segment(&[(1, 10), (2, 10)], &[]), segment(&[], &[(1, 30)])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 2, 10)]);
        assert_eq!((choice.shares()[0].dead, choice.rank(1)), (1, None));
    }

    #[test]
    fn what_overlaps_in_part_is_taken_in_part() {
        let all = [segment(&[(1, 10), (2, 10), (3, 10)], &[]), segment(&[(3, 10), (4, 10)], &[])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 10), (0, 2, 10), (0, 3, 10), (1, 4, 10)]);
        let share = &choice.shares()[1];
        assert_eq!((share.alive, share.own, share.alone, share.elsewhere.clone()), (2, 1, 1, by(&[0])));
    }

    #[test]
    fn a_row_that_stands_twice_in_one_segment_is_one() {
        let all = [segment(&[(1, 10), (1, 10), (1, 11)], &[])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 10), (0, 1, 11)]);
        assert_eq!(choice.shares()[0].doubles, 1);
    }

    #[test]
    fn keys_at_the_ends_of_what_there_is() {
        let all = [segment(&[(i64::MIN, u64::MAX), (i64::MAX, 0)], &[(i64::MAX, u64::MAX), (i64::MIN, u64::MAX)])];
        assert_eq!(choose(&all, 3).1, [(0, i64::MIN, u64::MAX)]);
    }

    proptest::proptest! {
        /// Rows are inserted, upserted, deleted, merged, split and cleaned at random, inputs stay: each living row comes once.
        #[test]
        fn any_history_comes_back_once(
            steps in proptest::collection::vec((0u8..6, 0i64..12, 0usize..6), 1..40),
            order in proptest::collection::vec(proptest::prelude::any::<u32>(), 64),
            of in 1u64..5,
        ) {
            let mut all: Vec<Segment> = Vec::new();
            let mut current: Vec<usize> = Vec::new();
            let alive = |segment: &Segment| -> Vec<(i64, u64)> {
                let dead = |row: &&(i64, u64)| !segment.deletes.iter().any(|d| d.0 == row.0 && d.1 > row.1);
                segment.rows.iter().filter(dead).copied().collect()
            };
            for (at, (what, key, pick)) in (1u64..).zip(steps) {
                // A delete goes to the segments that have the key, as Milvus's filters find them, and to some others by mistake.
                let strike = |all: &mut Vec<Segment>, current: &[usize]| {
                    for id in current {
                        if all[*id].rows.iter().any(|row| row.0 == key) || (id + pick) % 3 == 0 {
                            all[*id].deletes.push((key, at));
                        }
                    }
                };
                match what {
                    0 => {
                        current.push(all.len());
                        all.push(segment(&[(key, at), (key + 100, at)], &[]));
                    }
                    1 => strike(&mut all, &current),
                    2 => {
                        strike(&mut all, &current);
                        current.push(all.len());
                        all.push(segment(&[(key, at)], &[(key, at)]));
                    }
                    3 if !current.is_empty() => {
                        // Split: a reader of one, a writer of two.
                        let rows = alive(&all[current.swap_remove(pick % current.len())]);
                        for half in rows.chunks(rows.len().div_ceil(2).max(1)) {
                            current.push(all.len());
                            all.push(segment(half, &[]));
                        }
                    }
                    _ if !current.is_empty() => {
                        let inputs = current.split_off(pick % current.len());
                        let rows: Vec<_> = inputs.iter().flat_map(|id| alive(&all[*id])).collect();
                        current.push(all.len());
                        all.push(segment(&rows, &[]));
                    }
                    _ => {}
                }
            }
            let mut truth: Vec<(i64, u64)> = current.iter().flat_map(|id| alive(&all[*id])).collect();
            truth.sort_unstable();
            let mut shuffled: Vec<(u32, Segment)> = all.iter().enumerate().map(|(n, s)| (order[n % 64], s.clone())).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<Segment> = shuffled.into_iter().map(|(_, segment)| segment).collect();
            let (choice, taken) = choose(&shuffled, of);
            let mut rows: Vec<(i64, u64)> = taken.iter().map(|(_, key, at)| (*key, *at)).collect();
            rows.sort_unstable();
            proptest::prop_assert_eq!(rows, truth);
            let whole = choose(&shuffled, 1);
            proptest::prop_assert_eq!(whole, (choice, taken));
        }
    }
}

mod deletes {
    use eyrie_milvus::salvage::{Key, delete};

    #[test]
    fn deletes_in_all_forms() {
        let seven = Some((Key::Number(7), 450_000_000_000_000_001));
        assert_eq!(delete(br#"{"pk":7,"ts":450000000000000001,"pkType":5}"#), seven);
        assert_eq!(delete(br#"{"pk":{"value":7},"ts":450000000000000001,"pkType":5}"#), seven);
        assert_eq!(delete(b"7,450000000000000001"), seven);
        let text = |text: &str| Some((Key::Text(text.as_bytes().into()), 1));
        assert_eq!(delete(br#"{"pk":{"varCharValue":"x","value":"a,b"},"ts":1,"pkType":21}"#), text("a,b"));
        assert_eq!(delete("{\"pk\":\"ü\",\"ts\":1}".as_bytes()), text("ü"));
        let extreme = Some((Key::Number(i64::MIN), u64::MAX));
        assert_eq!(delete(br#"{"pk":-9223372036854775808,"ts":18446744073709551615}"#), extreme);
        for broken in [&b""[..], b"7", b"a,b", br#"{"pk":7}"#, br#"{"ts":7}"#, b"7,-1"] {
            assert_eq!(delete(broken), None, "{broken:?}");
        }
    }
}

mod schemas {
    use std::collections::{BTreeMap, BTreeSet};

    use eyrie_milvus::binlog::Physical;
    use eyrie_milvus::salvage::schema::{Schema, Seen, SeenField, of_backup};

    fn seen() -> Seen {
        let field = |data_type, physical| SeenField { data_type, physical: Some(physical) };
        Seen {
            collection: 7,
            fields: BTreeMap::from([
                (100, field(21, Physical::Text)),
                (101, field(101, Physical::Fixed(64))),
                (102, field(23, Physical::Text)),
            ]),
            key: Some(100),
            keys_are_row_ids: None,
            partitions: BTreeSet::from([8, 12]),
            key_len_max: Some(30),
        }
    }

    #[test]
    fn what_is_guessed_fits_the_logs() {
        let guess = Schema::guess(&seen());
        assert_eq!(guess.problems(&seen()), Vec::<String>::new());
        assert_eq!(guess.fields[1].dim, Some(16));
        assert_eq!(guess.partition(8), Some("_default"));
        assert_eq!(guess.partition(12), Some("partition_12"));
        let made = guess.for_milvus("x");
        assert!(made.enable_dynamic_field && made.fields.len() == 2, "{made:#?}");
        let page = Schema::page(&seen());
        assert!(page.contains("dim: 16               # certain") && page.contains("$meta           # GUESS"), "{page}");
    }

    /// Each change alone is found, in words that name it.
    #[test]
    fn a_schema_that_is_not_that_of_the_logs_is_refused() {
        type Change = fn(&mut Schema);
        let cases: [(Change, &str); 17] = [
            (|s| s.collection = Some(8), "another collection"),
            (|s| s.shards = 0, "shards"),
            (
                |s| s.fields[1].kind = "BinaryVector".into(),
                "is BinaryVector in the schema, and FloatVector in the logs",
            ),
            (|s| s.fields[1].kind = "Vector".into(), "is no type"),
            (|s| s.fields[1].dim = Some(8), "dim 8 in the schema, and 16 in the logs"),
            (|s| s.fields[1].dim = None, "lacks its dim"),
            (|s| s.fields[1].name = "field_100".into(), "two fields are called"),
            (|s| s.fields[1].name = "a-b".into(), "can't be the name"),
            (|s| s.fields[0].max_length = Some(29), "a key of 30 bytes"),
            (|s| s.fields[0].max_length = None, "needs a max_length"),
            (|s| s.fields[0].primary_key = false, "0 fields are marked as primary_key"),
            (|s| s.fields.swap(0, 1), "has id 101 where 100 is next"),
            (|s| drop(s.fields.pop()), "the bucket has logs of field 102 (JSON)"),
            (|s| s.fields[2].id = 103, "no logs of a field 103"),
            (|s| drop(s.partitions.pop()), "partition 12 of the bucket is named 0 times"),
            (|s| s.fields[0].partition_key = true, "num_partitions must say"),
            (|s| s.num_partitions = Some(2), "no field is marked as partition_key"),
        ];
        for (change, words) in cases {
            let mut schema = Schema::guess(&seen());
            change(&mut schema);
            let problems = schema.problems(&seen());
            assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
        }
    }

    #[test]
    fn the_schema_of_an_old_backup_will_do() {
        let guess = Schema::guess(&seen());
        let mut backup = guess.for_milvus("birds");
        backup.fields[0].name = "name".into();
        let schema = of_backup(&backup, guess.partitions.clone());
        assert_eq!(schema.problems(&seen()), Vec::<String>::new());
        assert_eq!(schema.fields[0].name, "name");
        assert_eq!(schema.fields[2], guess.fields[2]);
    }
}

mod logs {
    use eyrie_milvus::binlog::{Descriptor, Ends, EventKind, Log, Physical, Values, log, only};

    fn never(_: i64, _: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }

    fn at() -> Descriptor {
        Descriptor { collection: 1, partition: 2, segment: 3, field: 4, from: 5, to: 6, data_type: 5 }
    }

    fn picked(values: Values, keep: &dyn Fn(usize) -> bool) -> Values {
        let places: Vec<usize> = (0..values.len()).filter(|place| keep(*place)).collect();
        match values {
            Values::Numbers(all) => Values::Numbers(places.iter().map(|place| all[*place]).collect()),
            Values::Texts(all) => Values::Texts(places.iter().map(|place| all[*place].clone()).collect()),
            Values::Fixed(width, all) => {
                let each = places.iter().flat_map(|place| all[place * width..(place + 1) * width].to_vec());
                Values::Fixed(width, each.collect())
            }
        }
    }

    fn samples() -> Vec<(Physical, Values)> {
        let bytes = |n: usize| (0..n).map(|n| (n * 7) as u8).collect::<Vec<_>>();
        let texts = (0..1000).map(|n| vec![b'a' + (n % 26) as u8; n * 5]).collect();
        vec![
            (Physical::Bool, Values::Fixed(1, (0..77).map(|n| u8::from(n % 3 == 0)).collect())),
            (Physical::Int32, Values::Fixed(4, bytes(4 * 99))),
            (Physical::Int64, Values::Numbers((0..300_000).map(|n| i64::MAX - n * n).collect())),
            (Physical::Float, Values::Fixed(4, bytes(4))),
            (Physical::Double, Values::Fixed(8, bytes(8 * 500))),
            (Physical::Text, Values::Texts(texts)),
            (Physical::Fixed(3000), Values::Fixed(3000, bytes(3000 * 1000))),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for (physical, values) in samples() {
            let bytes = log(&at(), EventKind::Insert, physical, &values).unwrap();
            let read = Log::read(&bytes).unwrap();
            assert_eq!(read.descriptor, at());
            assert_eq!(read.values(&never).unwrap(), values, "{physical:?}");
            let ends = Ends::read(&bytes[..300.min(bytes.len())], &bytes[bytes.len() - 200..], bytes.len() as u64);
            let ends = ends.unwrap().unwrap();
            assert_eq!((ends.rows, ends.physical), (values.len() as u64, Some(physical)));
            assert_eq!(ends, Ends::of(&read).unwrap());
        }
    }

    #[test]
    fn some_rows_are_those_rows() {
        let keep = |place: usize| place % 3 == 1;
        for (physical, values) in samples().into_iter().filter(|(_, values)| values.len() > 1) {
            let bytes = log(&at(), EventKind::Insert, physical, &values).unwrap();
            let some = only(&bytes, &keep, &never).unwrap().unwrap();
            let read = Log::read(&some).unwrap();
            assert_eq!(read.values(&never).unwrap(), picked(values, &keep), "{physical:?}");
            assert_eq!((read.descriptor, read.events[0].from, read.events[0].to), (at(), 5, 6));
            assert_eq!(only(&bytes, &|_| false, &never).unwrap(), None);
        }
    }

    /// Whatever is broken, it is an error or other values, and never a panic.
    #[test]
    fn a_byte_that_flips_ends_nothing() {
        for (physical, values) in samples().into_iter().filter(|(_, values)| values.len() < 100) {
            let whole = log(&at(), EventKind::Insert, physical, &values).unwrap();
            for (place, mask) in (0..whole.len()).flat_map(|place| [(place, 1u8), (place, 0x80), (place, 0xff)]) {
                let mut broken = whole.clone();
                broken[place] ^= mask;
                let _ = Ends::read(&broken, &broken, broken.len() as u64);
                let _ = only(&broken, &|place| place % 2 == 0, &never);
            }
        }
    }

    #[test]
    fn a_log_that_is_cut_anywhere_is_refused() {
        let values = Values::Numbers(vec![1, 2, 3]);
        let bytes = log(&at(), EventKind::Insert, Physical::Int64, &values).unwrap();
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            assert!(Log::read(cut).and_then(|log| log.values(&never)).is_err(), "{len}");
            assert!(!matches!(Ends::read(cut, cut, len as u64), Ok(Some(_))), "{len}");
        }
    }
}

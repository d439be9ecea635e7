//! The tree of what is pending. The switch belongs to the process, so these tests take turns.
use std::{
    cell::RefCell,
    panic::{Location, resume_unwind},
    rc::Rc,
    sync::{Mutex, PoisonError},
    thread,
};
use twistor::{
    defer::{Deferred, Resolver, debug, gather_results},
    failure::Failure,
    inline_callbacks, report,
};

/// Runs `test` in its own thread, whose table is empty, with debugging on.
fn debugging(test: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    debug::set_debugging(true);
    let ended = thread::spawn(test).join();
    debug::set_debugging(false);
    drop(turn);
    ended.unwrap_or_else(|panic| resume_unwind(panic));
}

#[test]
fn with_debugging_off_the_text_says_so() {
    debugging(|| {
        debug::set_debugging(false);
        let (_deferred, _resolver) = Deferred::<()>::new();
        let text = debug::waiting().to_string();
        assert!(text.starts_with("debugging is off"), "{text}");
    });
}

#[track_caller]
fn here() -> &'static Location<'static> {
    Location::caller()
}

/// Returns the tree, with `file:` for the path of this file, and without columns.
fn tree() -> Vec<String> {
    let text =
        debug::waiting().to_string().replace(file!(), "file").replace("process::debugging::", "");
    text.lines()
        .map(|line| {
            line.split(' ')
                .map(|word| {
                    if word.starts_with("file:") { word.rsplit_once(':').unwrap().0 } else { word }
                })
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[inline_callbacks]
fn inner(wait: Deferred<u32>) -> Deferred<u32> {
    return_value!(yield_!(wait)? + 1)
}

#[inline_callbacks]
async fn outer(one: Deferred<u32>, two: Deferred<u32>) -> Result<u32, Failure> {
    let (one, two) = gather_results((inner(one), two)).await?;
    Ok(one + two)
}

#[test]
fn the_tree_says_where_each_was_made_and_what_it_awaits() {
    debugging(|| {
        let line = line!();
        let (one, fire_one) = Deferred::new();
        let (two, fire_two) = Deferred::new();
        let result = outer(one, two.map(|n: u32| n * 2));
        let made = |offset: u32| format!("made at file:{}", line + offset);
        let (inner, outer, gather) = (line - 12, line - 9, line - 7);
        let own = "the_tree_says_where_each_was_made_and_what_it_awaits";
        assert_eq!(
            tree(),
            [
                "8 wait:".to_owned(),
                format!("#4 coroutine outer, made at file:{outer}"),
                format!("  waits at file:{gather} for #6 list, made at file:{gather}"),
                format!("    waits for #7 callback, made at file:{gather}"),
                format!("      waits for #5 coroutine inner, made at file:{}", inner - 2),
                format!("        waits at file:{inner} for #1 Deferred, {}", made(1)),
                format!("    waits for #8 callback, made at file:{gather}"),
                format!("      waits for #3 callback {own}, {}", made(3)),
                format!("        waits for #2 Deferred, {}", made(2)),
            ]
        );
        fire_one.callback(1);
        fire_two.callback(2);
        assert_eq!(result.take_result().unwrap().unwrap(), 6);
        assert_eq!(tree(), ["nothing waits"]);
    });
}

#[test]
fn a_deferred_that_two_wait_for_has_one_line_and_a_circle_is_called_one() {
    debugging(|| {
        let (one, fire_one) = Deferred::<u32>::new();
        let (two, fire_two) = Deferred::<u32>::new();
        one.chain(fire_two);
        two.chain(fire_one);
        let text = tree();
        assert_eq!(text[0], "4 wait:");
        assert_eq!(text.len(), 6, "{text:#?}");
        assert!(text[5].ends_with("waits for #1 (above: a circle)"), "{text:#?}");
    });
}

#[test]
fn a_circle_is_called_one_also_beside_others() {
    debugging(|| {
        let (_alone, _resolver) = Deferred::<u32>::new();
        let (one, fire_one) = Deferred::<u32>::new();
        let (two, fire_two) = Deferred::<u32>::new();
        one.chain(fire_two);
        two.chain(fire_one);
        let text = tree();
        assert!(text.last().unwrap().ends_with("waits for #2 (above: a circle)"), "{text:#?}");
    });
}

#[test]
fn a_coroutine_that_awaits_an_older_deferred_is_not_shown_as_awaiting_a_future() {
    debugging(|| {
        debug::set_debugging(false);
        let (older, _resolver) = Deferred::<u32>::new();
        debug::set_debugging(true);
        let _waits = inner(older);
        let text = tree();
        assert!(text.len() == 2 && !text[1].contains("future"), "{text:#?}");
    });
}

#[test]
fn a_coroutine_that_keeps_the_resolver_of_what_it_awaits_is_shown() {
    #[inline_callbacks]
    fn forgetful() -> Deferred<u32> {
        let (answer, _never_used): (Deferred<u32>, Resolver<u32>) = Deferred::new();
        yield_!(answer)
    }
    debugging(|| {
        let _result = forgetful();
        let waiting = debug::waiting();
        let [coroutine, answer] = waiting.all() else { panic!("{waiting}") };
        assert_eq!((answer.what(), coroutine.what()), ("Deferred", "coroutine"));
        assert!(
            answer.function().ends_with("forgetful") && coroutine.function().ends_with("forgetful")
        );
        assert_eq!(coroutine.waits_for().collect::<Vec<_>>(), [answer.number()]);
        assert!(coroutine.waits_at().unwrap().line() == answer.location().line() + 1);
        assert_eq!(coroutine.location().file(), file!());
    });
}

#[test]
fn a_foreign_await_and_a_long_chain_are_shown_without_recursion() {
    debugging(|| {
        let _foreign = Deferred::from_future(std::future::pending::<()>());
        assert!(tree()[1].ends_with(" awaits a future other than a Deferred"), "{:?}", tree());
        let (first, _resolver) = Deferred::<u32>::new();
        let _chain = (0..20_000).fold(first, |chain, _| chain.map(|n| n + 1));
        assert_eq!(tree().len(), 1 + 1 + 20_001);
    });
}

#[test]
fn an_endless_loop_of_returned_deferreds_needs_constant_memory_also_when_it_is_watched() {
    fn again(times: u32) -> Deferred<u32> {
        let (next, resolver) = Deferred::new();
        let chain =
            next.add_callback(
                move |()| if times == 0 { Deferred::succeed(0) } else { again(times - 1) },
            );
        // fired from outside the callback, later
        PENDING.with_borrow_mut(|pending| pending.push(resolver));
        chain
    }
    thread_local! {
        static PENDING: RefCell<Vec<Resolver<()>>> = const { RefCell::new(Vec::new()) };
    }
    debugging(|| {
        let result = again(10_000);
        while let Some(resolver) = PENDING.with_borrow_mut(Vec::pop) {
            resolver.callback(());
            assert!(debug::waiting().all().len() < 5);
        }
        assert_eq!(result.take_result().unwrap().unwrap(), 0);
    });
}

#[test]
fn d_023_a_second_fire_names_the_line_that_made_it_and_the_first_that_fired_it() {
    for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
        let (deferred, resolver) = Deferred::<u32>::new();
        let made = here().line() - 1;
        deferred.add_errback(|_| Ok(0)).detach();
        let resolver = resolver.shared();
        let fire = |good: bool| {
            if good { resolver.callback(1) } else { resolver.errback(Failure::message("no")) }
        };
        let fired = here().line() - 2;
        fire(first).unwrap();
        let text = fire(second).unwrap_err().to_string();
        let count = |line: u32| text.matches(&format!("{}:{line}:", file!())).count();
        assert_eq!((count(made), count(fired), count(here().line() - 3)), (1, 1, 0), "{text}");
    }
}

#[test]
fn d_025_callbacks_may_be_added_before_and_after_the_fire() {
    debugging(|| {
        for on in [true, false] {
            debug::set_debugging(on);
            let (deferred, resolver) = Deferred::<u32>::new();
            debug::set_debugging(!on);
            let chain = deferred.map(|n| n + 1);
            debug::set_debugging(on);
            resolver.callback(1);
            debug::set_debugging(!on);
            assert_eq!(chain.map(|n| n + 1).take_result().unwrap().unwrap(), 3);
        }
    });
}

#[test]
fn d_104_the_report_of_a_watched_failure_begins_with_where_it_was_made_and_fired() {
    debugging(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let into = seen.clone();
        let _sink = report::push_sink(move |report| into.borrow_mut().push(report.to_string()));
        let (deferred, resolver) = Deferred::<u32>::new();
        let made = here().line() - 1;
        resolver.errback(Failure::message("no"));
        let fired = here().line() - 1;
        drop(deferred);
        let seen = seen.take();
        let lines: Vec<_> = seen[0].lines().collect();
        assert_eq!(lines[0], "Unhandled Error");
        assert!(
            lines[1].starts_with(&format!("(debug:  I: fired at {}:{fired}:", file!())),
            "{}",
            lines[1]
        );
        assert!(lines[1].contains(&format!(", C: made at {}:{made}:", file!())), "{}", lines[1]);
    });
}

//! `#[inline_callbacks]`: order, errors, nesting, tracebacks.
use crate::support::{Bang, Log, Reports, now, on_small_stack, watch};
use std::{cell::RefCell, rc::Rc, time::Duration};
use twistor::{
    error::{AbandonedError, Panicked},
    prelude::*,
    task::Clock,
};

fn later(clock: &Clock, seconds: u64) -> Deferred<()> {
    let (deferred, resolver) = Deferred::new();
    clock.call_later(Duration::from_secs(seconds), move || resolver.callback(()));
    deferred
}

#[test]
fn i_002_d_109_d_114_async_functions_wait_for_deferreds_and_for_one_another() {
    #[inline_callbacks]
    async fn inner(value: Deferred<&'static str>) -> Result<&'static str, Failure> {
        value.await
    }
    #[inline_callbacks]
    async fn outer(value: Deferred<&'static str>) -> Result<&'static str, Failure> {
        inner(value).await
    }
    assert_eq!(now(outer(Deferred::succeed("foo"))).unwrap(), "foo");
    assert!(now(outer(Deferred::fail(Bang("bar")))).unwrap_err().check::<Bang>());
}

#[test]
fn i_003_an_error_after_a_wait_fails_the_result_and_nothing_reaches_the_caller() {
    #[inline_callbacks]
    fn divide(by: Deferred<u32>) -> Deferred<u32> {
        let by = yield_!(by)?;
        return_value!(1 / by)
    }
    let (by, fire) = Deferred::new();
    let result = watch(divide(by));
    fire.callback(0);
    assert!(result.failure().check::<Panicked>());
    #[inline_callbacks]
    fn parse(text: Deferred<&'static str>) -> Deferred<u32> {
        let text = yield_!(text)?;
        return_value!(text.parse()?)
    }
    assert!(now(parse(Deferred::succeed("x"))).unwrap_err().check::<std::num::ParseIntError>());
}

#[test]
fn i_005_i_007_d_119_a_failure_can_be_caught_at_the_wait_point() {
    #[inline_callbacks]
    fn caught(bad: Deferred<u32>) -> Deferred<()> {
        match yield_!(bad) {
            Err(failure) if failure.check::<Bang>() => return_value!(()),
            other => panic!("{other:?}"),
        }
    }
    assert!(now(caught(Deferred::fail(Bang("now")))).is_ok());
    let (bad, fire) = Deferred::new();
    let result = watch(caught(bad));
    fire.errback(Bang("later"));
    result.value();
}

#[test]
fn i_008_thousands_of_ready_yields_do_not_grow_the_stack() {
    #[inline_callbacks]
    fn many() -> Deferred<u32> {
        let mut sum = 0;
        for _ in 0..1_000_000 {
            sum += yield_!(Deferred::succeed(1))?;
        }
        return_value!(sum)
    }
    on_small_stack(|| assert_eq!(now(many()).unwrap(), 1_000_000));
}

#[test]
fn i_011_i_012_it_ends_with_the_empty_value_or_with_one_after_a_wait() {
    #[inline_callbacks]
    fn nothing(wait: Deferred<()>) -> Deferred<()> {
        yield_!(wait)?;
        return_value!()
    }
    #[inline_callbacks]
    fn value(wait: Deferred<()>) -> Deferred<u32> {
        yield_!(wait)?;
        Ok(14)
    }
    now(nothing(Deferred::succeed(()))).unwrap();
    assert_eq!(now(value(Deferred::succeed(()))).unwrap(), 14);
}

#[test]
fn i_016_d_112_nothing_is_kept_alive_after_the_end() {
    #[inline_callbacks]
    fn holds(held: Rc<()>, wait: Deferred<()>) -> Deferred<Rc<()>> {
        yield_!(wait)?;
        Ok(held)
    }
    let held = Rc::new(());
    let (wait, fire) = Deferred::new();
    let result = holds(held.clone(), wait);
    assert_eq!(Rc::strong_count(&held), 2);
    fire.callback(());
    drop(now(result));
    assert_eq!(Rc::strong_count(&held), 1);
}

/// Three functions, each of which awaits the next; the innermost waits `waits` times.
mod stacked {
    use super::{Deferred, Failure, Log, inline_callbacks};

    type Sources = std::rc::Rc<super::RefCell<Vec<Deferred<u32>>>>;

    #[inline_callbacks]
    pub(super) fn f1(log: Log, sources: Sources) -> Deferred<u32> {
        log.add("f1 enter");
        let source = sources.borrow_mut().remove(0);
        let n = yield_!(source)?;
        log.add(format!("f1 exit {n}"));
        return_value!(n)
    }

    #[inline_callbacks]
    pub(super) fn f2(log: Log, sources: Sources, times: u32) -> Deferred<u32> {
        log.add("f2 enter");
        let mut sum = 0;
        for _ in 0..times {
            sum += yield_!(f1(log.clone(), sources.clone()))?;
        }
        log.add(format!("f2 exit {}", sum * 2));
        return_value!(sum * 2)
    }

    #[inline_callbacks]
    pub(super) async fn f2_async(log: Log, sources: Sources, times: u32) -> Result<u32, Failure> {
        log.add("f2 enter");
        let mut sum = 0;
        for _ in 0..times {
            sum += f1(log.clone(), sources.clone()).await?;
        }
        log.add(format!("f2 exit {}", sum * 2));
        Ok(sum * 2)
    }

    #[inline_callbacks]
    pub(super) fn f3(log: Log, sources: Sources, times: u32, by_async: bool) -> Deferred<u32> {
        log.add("f3 enter");
        let mut sum = 0;
        for _ in 0..times {
            sum += if by_async {
                yield_!(f2_async(log.clone(), sources.clone(), times))?
            } else {
                yield_!(f2(log.clone(), sources.clone(), times))?
            };
        }
        log.add(format!("f3 exit {}", sum * 2));
        return_value!(sum * 2)
    }
}

#[test]
fn i_017_i_018_functions_start_at_once_and_end_from_the_inside_out() {
    for by_async in [false, true] {
        let log = Log::new();
        let (source, fire) = Deferred::new();
        let result =
            watch(stacked::f3(log.clone(), Rc::new(RefCell::new(vec![source])), 1, by_async));
        assert_eq!(log.take(), ["f3 enter", "f2 enter", "f1 enter"]);
        fire.callback(2);
        assert_eq!(log.take(), ["f1 exit 2", "f2 exit 4", "f3 exit 8"]);
        assert_eq!(result.value(), 8);
    }
}

#[test]
fn i_019_i_020_nine_calls_on_three_levels_nest_strictly() {
    for by_async in [false, true] {
        let log = Log::new();
        let (sources, fires): (Vec<_>, Vec<_>) = (0..9).map(|_| Deferred::new()).unzip();
        let result = watch(stacked::f3(log.clone(), Rc::new(RefCell::new(sources)), 3, by_async));
        assert_eq!(log.take(), ["f3 enter", "f2 enter", "f1 enter"]);
        let mut expected = Vec::new();
        for (n, fire) in fires.into_iter().enumerate() {
            fire.callback(1);
            expected.push("f1 exit 1");
            match n {
                8 => expected.extend(["f2 exit 6", "f3 exit 36"]),
                2 | 5 => expected.extend(["f2 exit 6", "f2 enter", "f1 enter"]),
                _ => expected.push("f1 enter"),
            }
            assert_eq!(log.take(), expected, "after fire {n}");
            expected.clear();
        }
        assert_eq!(result.value(), 36);
    }
}

#[test]
fn i_021_i_022_i_023_callbacks_put_on_an_inner_function_transform_what_the_waiter_sees() {
    #[inline_callbacks]
    fn inner(wait: Deferred<u32>) -> Deferred<u32> {
        wait.await
    }
    #[inline_callbacks]
    fn outer(first: Deferred<u32>, second: Deferred<u32>) -> Deferred<(u32, u32)> {
        let one = yield_!(inner(first))?;
        let two = yield_!(inner(second).map(|n| n * 2))?;
        return_value!((one, two))
    }
    assert_eq!(now(outer(Deferred::succeed(5), Deferred::succeed(2))).unwrap(), (5, 4));
    let (blocked, fire) = Deferred::new();
    let result = watch(outer(Deferred::succeed(5), blocked));
    fire.callback(2);
    assert_eq!(result.value(), (5, 4));
}

#[test]
fn i_024_i_025_a_failure_inside_rises_at_the_outer_wait_point_and_can_be_caught() {
    #[inline_callbacks]
    fn inner(log: Log, wait: Deferred<u32>) -> Deferred<u32> {
        let n = yield_!(wait)?;
        log.add("not reached by a failure");
        return_value!(n)
    }
    #[inline_callbacks]
    fn outer(log: Log, first: Option<Deferred<u32>>, bad: Deferred<u32>) -> Deferred<u32> {
        let sum = match first {
            Some(first) => yield_!(inner(log.clone(), first))?,
            None => 0,
        };
        match yield_!(inner(log, bad)) {
            Err(_) => return_value!(sum + 5),
            Ok(_) => return_value!(0),
        }
    }
    let log = Log::new();
    let (bad, fire) = Deferred::new();
    let result = watch(outer(log.clone(), None, bad));
    fire.errback(Bang("x"));
    assert_eq!((result.value(), log.take().len()), (5, 0));
    let (bad, fire) = Deferred::new();
    let result = watch(outer(log.clone(), Some(Deferred::succeed(1)), bad));
    fire.errback(Bang("x"));
    assert_eq!((result.value(), log.take().len()), (6, 1));
}

#[test]
fn i_027_i_028_the_traceback_names_the_raising_function_and_each_that_waited() {
    #[inline_callbacks]
    fn innermost(wait: Deferred<()>) -> Deferred<()> {
        yield_!(wait)?;
        Err(Failure::new(Bang("deep")))
    }
    #[inline_callbacks]
    fn third(wait: Deferred<()>) -> Deferred<()> {
        yield_!(innermost(wait))
    }
    #[inline_callbacks]
    async fn second(wait: Deferred<()>) -> Result<(), Failure> {
        third(wait).await
    }
    #[inline_callbacks]
    fn outermost(wait: Deferred<()>) -> Deferred<()> {
        yield_!(second(wait))
    }
    let (wait, fire) = Deferred::new();
    let result = watch(outermost(wait));
    fire.callback(());
    let failure = result.failure();
    let text = failure.traceback();
    assert_eq!(text, failure.traceback(), "asked for a second time it is the same");
    let functions: Vec<_> = failure
        .frames()
        .iter()
        .rev()
        .map(|frame| frame.function().rsplit("::").next().unwrap())
        .collect();
    assert_eq!(functions, ["outermost", "second", "third", "innermost"]);
    assert!(text.ends_with("Bang: deep"));
}

#[test]
fn d_115_d_116_d_117_tracebacks_name_the_place_of_the_failure_and_the_awaiting_function() {
    #[inline_callbacks]
    fn awaiting(bad: Deferred<()>) -> Deferred<()> {
        let line = line!() + 1;
        let failure = yield_!(bad).unwrap_err();
        let place = failure.frames()[1].location();
        assert_eq!((place.file(), place.line()), (file!(), line), "{failure:#?}");
        Err(failure)
    }
    let made = line!() + 1;
    let ready = now(awaiting(Deferred::fail(Bang("ready")))).unwrap_err();
    assert_eq!(ready.frames()[0].location().line(), made);
    assert!(ready.traceback().contains("::awaiting\n"), "{ready:#?}");
    let (pending, fire) = Deferred::new();
    let result = watch(awaiting(pending));
    fire.errback(Bang("later"));
    let failure = result.failure();
    assert!(failure.traceback().contains("::awaiting\n") && failure.to_string() == "later");
}

#[test]
fn f_019_f_026_f_028_a_delivered_error_keeps_its_origin_and_another_may_take_its_place() {
    #[inline_callbacks]
    fn passes(bad: Deferred<()>) -> Deferred<()> {
        yield_!(bad)?;
        return_value!()
    }
    #[inline_callbacks]
    fn replaces(bad: Deferred<()>) -> Deferred<()> {
        yield_!(bad).map_err(|_| Failure::new(Bang("second")))?;
        return_value!()
    }
    let original = Failure::new(Bang("first"));
    let passed = now(passes(Deferred::fail(original.clone()))).unwrap_err();
    assert!(passed.is_same(&original) && passed.frames()[0] == original.frames()[0]);
    assert_eq!(now(replaces(Deferred::fail(original))).unwrap_err().to_string(), "second");
}

#[test]
fn d_118_two_levels_with_two_waits_each_progress_with_the_clock() {
    #[inline_callbacks]
    fn inner(clock: Clock, log: Log) -> Deferred<()> {
        log.add(2);
        yield_!(later(&clock, 1))?;
        log.add(3);
        return_value!()
    }
    #[inline_callbacks]
    fn outer(clock: Clock, log: Log) -> Deferred<&'static str> {
        log.add(1);
        yield_!(inner(clock.clone(), log.clone()))?;
        log.add(4);
        yield_!(later(&clock, 1))?;
        log.add(5);
        return_value!("done")
    }
    let (clock, log) = (Clock::new(), Log::new());
    let result = watch(outer(clock.clone(), log.clone()));
    let millis = Duration::from_millis;
    clock.advance(millis(900));
    assert_eq!(log.take(), ["1", "2"]);
    clock.advance(millis(100));
    assert_eq!(log.take(), ["3", "4"]);
    clock.advance(millis(900));
    assert!(log.take().is_empty() && result.is_pending());
    clock.advance(millis(100));
    assert_eq!((log.take(), result.value()), (vec!["5".to_owned()], "done"));
}

#[test]
fn d_120_awaiting_a_deferred_that_waits_for_another() {
    #[inline_callbacks]
    fn wait(chained: Deferred<u32>) -> Deferred<u32> {
        chained.await
    }
    let (second, fire) = Deferred::new();
    let result = watch(wait(Deferred::succeed(()).add_callback(move |()| second)));
    assert!(result.is_pending());
    fire.callback(3);
    assert_eq!(result.value(), 3);
}

#[test]
fn dropping_the_result_stops_nothing_and_losing_the_resolver_frees_the_frame() {
    #[inline_callbacks]
    fn work(log: Log, wait: Deferred<()>, held: Rc<()>) -> Deferred<()> {
        let result = yield_!(wait);
        log.add(result.map_or_else(
            |failure| failure.check::<AbandonedError>().to_string(),
            |()| "fired".into(),
        ));
        drop(held);
        return_value!()
    }
    let (log, held) = (Log::new(), Rc::new(()));
    let (wait, fire) = Deferred::new();
    drop(work(log.clone(), wait, held.clone()));
    fire.callback(());
    assert_eq!(log.take(), ["fired"]);
    let (wait, fire) = Deferred::new();
    drop(work(log.clone(), wait, held.clone()));
    drop(fire);
    assert_eq!(log.take(), ["true"]);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_panic_drops_the_locals_before_the_result_is_delivered() {
    struct Noisy(Log);
    impl Drop for Noisy {
        fn drop(&mut self) {
            self.0.add("local dropped");
        }
    }
    #[inline_callbacks]
    fn panics(log: Log, wait: Deferred<()>) -> Deferred<()> {
        let _noisy = Noisy(log);
        yield_!(wait)?;
        panic!("inside");
    }
    let log = Log::new();
    let (wait, fire) = Deferred::new();
    let noted = log.clone();
    panics(log.clone(), wait).add_errback(move |failure| noted.add(failure)).detach();
    fire.callback(());
    assert_eq!(log.take(), ["local dropped", "panicked: inside"]);
}

#[test]
fn a_failure_of_a_detached_coroutine_is_reported_with_the_function() {
    #[inline_callbacks]
    fn fails(wait: Deferred<()>) -> Deferred<()> {
        yield_!(wait)?;
        Err(Bang("lost").into())
    }
    let reports = Reports::new();
    fails(Deferred::succeed(())).detach();
    let seen = reports.take();
    assert!(seen.len() == 1 && seen[0].contains("::fails"), "{seen:?}");
}

#[test]
fn arguments_by_pattern_generics_and_recursion() {
    #[inline_callbacks]
    fn patterns((a, b): (u32, u32), mut n: u32, _: String, [c]: [u32; 1]) -> Deferred<u32> {
        n += yield_!(Deferred::succeed(a + b))?;
        return_value!(n + c)
    }
    #[inline_callbacks]
    fn generic<T: Clone + 'static, const N: usize>(
        value: T,
        make: impl Fn(&T) -> Deferred<T> + 'static,
    ) -> Deferred<Vec<T>> {
        let mut all = Vec::new();
        for _ in 0..N {
            all.push(yield_!(make(&value))?);
        }
        return_value!(all)
    }
    #[inline_callbacks]
    fn factorial(n: u64) -> Deferred<u64> {
        if n == 0 {
            return_value!(1)
        }
        return_value!(n * yield_!(factorial(n - 1))?)
    }
    assert_eq!(now(patterns((1, 2), 3, String::new(), [4])).unwrap(), 10);
    assert_eq!(now(generic::<_, 2>("a", |text| Deferred::succeed(*text))).unwrap(), ["a", "a"]);
    assert_eq!(now(factorial(10)).unwrap(), 3_628_800);
}

#[test]
fn locals_and_arguments_are_dropped_in_the_order_of_an_async_fn() {
    struct Noted(&'static str, Log);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.1.add(self.0);
        }
    }
    #[inline_callbacks]
    fn ours(_a: Noted, _: Noted, (_c, _d): (Noted, Noted), log: Log) -> Deferred<()> {
        let _local = Noted("local", log);
        yield_!(Deferred::succeed(()))?;
        return_value!()
    }
    async fn rust_s(_a: Noted, _: Noted, (_c, _d): (Noted, Noted), log: Log) {
        let _local = Noted("local", log);
        std::future::ready(()).await;
    }
    let log = Log::new();
    let noted = |name| Noted(name, log.clone());
    futures::executor::block_on(rust_s(
        noted("a"),
        noted("b"),
        (noted("c"), noted("d")),
        log.clone(),
    ));
    let expected = log.take();
    assert_eq!(expected.len(), 5);
    now(ours(noted("a"), noted("b"), (noted("c"), noted("d")), log.clone())).unwrap();
    assert_eq!(log.take(), expected);
}

#[test]
fn methods_take_self_shared_or_by_value() {
    struct Bank {
        balance: u32,
    }
    impl Bank {
        #[inline_callbacks]
        fn read(self: Rc<Self>, wait: Deferred<()>) -> Deferred<u32> {
            yield_!(wait)?;
            return_value!(self.balance)
        }
        #[inline_callbacks]
        fn close(self) -> Deferred<u32> {
            return_value!(self.balance)
        }
    }
    let (wait, fire) = Deferred::new();
    let result = watch(Rc::new(Bank { balance: 3 }).read(wait));
    fire.callback(());
    assert_eq!(result.value(), 3);
    assert_eq!(now(Bank { balance: 4 }.close()).unwrap(), 4);
}

#[test]
fn the_macros_work_inside_other_macros() {
    #[inline_callbacks]
    fn inside(one: Deferred<u32>) -> Deferred<Vec<String>> {
        let list =
            vec![format!("{}", yield_!(one)?), format!("{:?}", yield_!(Deferred::succeed('x'))?)];
        if let Ok(n) = yield_!(Deferred::succeed(1)) {
            assert_eq!(n, 1);
        }
        return_value!(list)
    }
    assert_eq!(now(inside(Deferred::succeed(5))).unwrap(), ["5", "'x'"]);
}

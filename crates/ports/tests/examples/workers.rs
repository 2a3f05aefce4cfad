use crate::world::World;

#[test]
fn workers_factor_numbers_and_one_that_fails_is_started_again() {
    let world = World::new();
    let mut pool = world.run("workers", &[]);
    let mut client = world.run("workers_client", &["12,0,1000000007"]);
    pool.says("has ended: die");
    pool.says("begins");
    client.says("0: there will be no answer: die ");
    assert!(client.end().success());
    let mut client = world.run("workers_client", &["12"]);
    client.says("12 = [2, 2, 3]");
    assert!(client.end().success());
}

#[test]
fn work_of_a_pool_that_is_killed_goes_to_another() {
    let world = World::new();
    let mut first = world.run("workers", &["nodeid", "first"]);
    first.says("worker 3 begins");
    // A prime for which the one who has it takes too long.
    let mut client = world.run("workers_client", &["18446744073709551557,6"]);
    client.says("6 = [2, 3]");
    let mut second = world.run("workers", &["nodeid", "second"]);
    second.says("worker 3 begins");
    first.kill();
    assert!(client.says("18446744073709551557: ").contains("transport_error"));
}

//! An extension in under 60 lines: a resting medium that slows particles down and takes up what they lose.
//!
//! Run it: `cargo run --release --example drag`. Leave out the `post`, and the first step is undone: momentum went nowhere.

use std::path::Path;

use bevy_ecs::prelude::*;
use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    ledger::{Amounts, Ledger},
    math::wide_product,
    node::Node,
    particle::{Momentum, Position},
    scenario::{generate, read},
    spawn,
    step::Clock,
};

/// Rate at which a particle loses momentum [1 / time].
#[derive(Component)]
struct Drag(f64);

/// dp/dt = -c p has the solution p·exp(-c Δt). Its first Padé form, p / (1 + c Δt), keeps the sign for any Δt, so a long step
/// damps to rest and never reverses. What the particle loses the medium gains: the same integer, in the ledger.
fn drag(mut particles: Query<(&Position, &mut Momentum, &Drag)>, clock: Res<Clock>, mut ledger: ResMut<Ledger>) {
    for (position, mut momentum, drag) in &mut particles {
        let kept = 1.0 / (1.0 + drag.0 * clock.dt);
        let gained = momentum.0.map(|p| wide_product(p as f64, kept - 1.0).0);
        momentum.0 = std::array::from_fn(|axis| momentum.0[axis] + gained[axis]);
        ledger.post("medium", Amounts::of_impulse(position.0, gained));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = "(version: 1, name: \"drag\", integrator: Leapfrog(dt: 0.01), until: Steps(1000),
                 generators: [Plummer(count: 100, mass: 1, radius: 1)], gravity: (softening: 0.05))";
    let scenario = read::read("drag", text, &[])?;
    let bodies = generate::population(&scenario, Path::new("."))?;
    let state = spawn::state(&scenario, &bodies).map_err(|faults| faults[0].message.clone())?;
    let mut node = Node::new(state, Cpu::new(Isa::widest(), 1)?);

    let world = node.world_mut();
    let particles: Vec<Entity> = world.query_filtered::<Entity, With<Momentum>>().iter(world).collect();
    for particle in particles {
        world.entity_mut(particle).insert(Drag(0.1));
    }
    node.extend(drag)?;

    let steps = node.advance(scenario.steps());
    println!("{steps} steps, {} breaches", node.breaches().len());
    println!("the medium took up {:?} quanta of momentum", node.ledger().accounts["medium"].momentum);
    println!("particles and accounts together: drift {:?}", {
        let (counted, due) = (node.counted().momentum, node.ledger().due().momentum);
        std::array::from_fn::<i128, 3, _>(|axis| counted[axis] - due[axis])
    });
    Ok(())
}

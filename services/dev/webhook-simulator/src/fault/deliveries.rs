//! Deliveries that do not arrive as they should.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Simulator,
    delivery::{Answer, nobody_there},
    world::World,
};

/// What goes wrong with a delivery. Written `drop`, `delay=500`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeliveryFault {
    /// It never arrives, and is recorded as failed.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It is sent after the next one has arrived.
    HoldBack,
    /// It is sent so many milliseconds later.
    Delay(u64),
}

#[derive(Clone, Debug)]
struct Scripted {
    fault: DeliveryFault,
    /// `issues`, or `*` for every event but pings.
    event: String,
    left: u32,
}

/// What goes wrong with deliveries, and those it goes wrong with.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    scripts: Vec<Scripted>,
    held: Vec<u64>,
    /// Deliveries that are sent later, or never.
    struck: HashMap<u64, DeliveryFault>,
}

impl Outgoing {
    fn next(&mut self, event: &str) -> Option<DeliveryFault> {
        let names = |s: &&mut Scripted| s.left > 0 && (s.event == event || s.event == "*" && event != "ping");
        let scripted = self.scripts.iter_mut().find(names)?;
        scripted.left -= 1;
        Some(scripted.fault)
    }
}

impl World {
    /// Has a delivery sent, unless something goes wrong with it.
    pub(crate) fn send_off(&mut self, id: u64, event: &str) {
        match self.faults.deliveries.next(event) {
            None => self.outgoing.push(id),
            Some(DeliveryFault::Duplicate) => self.outgoing.extend([id, id]),
            Some(DeliveryFault::HoldBack) => self.faults.deliveries.held.push(id),
            Some(fault @ (DeliveryFault::Drop | DeliveryFault::Delay(_))) => {
                self.faults.deliveries.struck.insert(id, fault);
                self.outgoing.push(id);
            }
        }
    }

    /// Sends what was held back: another one has arrived.
    pub(crate) fn release_held(&mut self) {
        let held = std::mem::take(&mut self.faults.deliveries.held);
        self.outgoing.extend(held);
    }
}

impl Simulator {
    /// The next deliveries of an event go wrong, `times` of them; `*` is every event but pings.
    pub fn fault_delivery(&self, fault: DeliveryFault, event: &str, times: u32) {
        let scripted = Scripted { fault, event: event.to_owned(), left: times };
        self.change(|world| world.faults.deliveries.scripts.push(scripted));
    }

    /// Nothing goes wrong with deliveries any more, and those that were held back are sent.
    pub fn heal_deliveries(&self) {
        self.change(|world| {
            world.faults.deliveries.scripts.clear();
            world.release_held();
        });
    }
}

/// Waits as long as a script says. How it ends, when it is not sent at all.
pub(crate) async fn let_out(simulator: &Simulator, id: u64) -> Option<Answer> {
    let fault = simulator.read(|world| world.faults.deliveries.struck.get(&id).copied())?;
    match fault {
        DeliveryFault::Drop => Some(nobody_there(0.0)),
        DeliveryFault::Delay(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            None
        }
        DeliveryFault::Duplicate | DeliveryFault::HoldBack => None,
    }
}

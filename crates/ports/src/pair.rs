//! Two ports that end together.
//!
//! The rule of AnyEvent::MP's introduction: watch what you spawned, have it watch you, and all is cleaned up,
//! whichever of the two ends, and also if only the connection between their nodes does.

use crate::node::context::Context;
use crate::{Message, Node, PortId, Reason, SpawnError, wire};

impl Node {
    /// Ends `port`, which is of this node, when `other` ends, normally or not, for the same reason; or when
    /// its node is lost. If the other is of this node too, each ends with the other; else the other side
    /// has to do the same.
    pub fn pair(&self, port: impl Into<PortId>, other: impl Into<PortId>) {
        let (port, other) = (port.into(), other.into());
        if self.is_local(&other) {
            self.end_with(&other, &port);
        }
        self.end_with(&port, &other);
    }

    fn end_with(&self, port: &PortId, other: &PortId) {
        let ended = port.clone();
        let monitor = self.monitor(other, move |node, reason| node.kill(&ended, reason));
        let port = port.clone();
        // A port that is being spawned is there only when the function that makes it has returned. One that
        // is not watches nobody.
        self.soon(move |node| node.keep_in(&port, Box::new(monitor)));
    }

    /// Spawns a port that ends with `port`, which is of this node, and the other way round. The function
    /// there is one of [`register_pair`](Self::register_pair), or any that watches the port that is its
    /// first argument.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    pub fn spawn_pair<T: Message>(
        &self,
        port: impl Into<PortId>,
        place: impl Into<PortId>,
        function: &str,
        args: T,
    ) -> Result<PortId, SpawnError> {
        let port = port.into();
        let mut list = wire::to_list(&args).expect("arguments are a list of values");
        list.insert(0, (&port).into());
        let spawned = self.spawn(place, function, list)?;
        self.end_with(&port, &spawned);
        Ok(spawned)
    }

    /// Makes a function known for [`spawn_pair`](Self::spawn_pair): it gets the port that wants another,
    /// and the port that it makes ends with that.
    pub fn register_pair<T: Message, O: crate::Outcome>(
        &self,
        name: &str,
        function: impl Fn(&Context<'_>, PortId, T) -> O + 'static,
    ) {
        self.register(name, move |context, mut args: crate::List| {
            let partner = args.first().and_then(crate::Value::as_port);
            let partner =
                partner.ok_or_else(|| Reason::die("expected a port as first argument"))?;
            args.remove(0);
            context.pair_with(&partner);
            function(context, partner, wire::from_list(args)?).into_result()
        });
    }
}

impl Context<'_> {
    /// Ends this port when another ends. See [`Node::pair`].
    pub fn pair_with(&self, other: impl Into<PortId>) {
        self.pair(self.this(), other);
    }

    /// Spawns a port that ends with this one, and the other way round. See [`Node::spawn_pair`].
    ///
    /// # Errors
    /// As [`Node::spawn`].
    ///
    /// # Panics
    /// As [`Node::spawn`].
    pub fn spawn_pair<T: Message>(
        &self,
        place: impl Into<PortId>,
        function: &str,
        args: T,
    ) -> Result<PortId, SpawnError> {
        self.node().spawn_pair(self.this(), place, function, args)
    }
}

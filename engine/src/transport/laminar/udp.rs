//! The socket below everything: the system's, or one in memory for tests and simulations.
//!
//! A send takes many datagrams of one length for one peer, a receive fills many slots: with the system's segmentation offload (GSO,
//! GRO) one call moves up to 64 datagrams, which is what makes small datagrams affordable. Nothing here blocks but [`Udp::wait`].

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};

/// The largest that the kernel puts into one slot when it joins datagrams [bytes].
const SLOT_BYTES: usize = 65_536;
/// Slots filled by one call at most.
pub(super) const SLOTS: usize = BATCH_SIZE;

/// Room for what one sender sent in a row: datagrams of equal length, the last of which may be shorter.
#[derive(Clone)]
pub struct Slot {
    /// The room.
    pub bytes: Vec<u8>,
    /// Bytes that came.
    pub length: usize,
    /// Bytes from one datagram to the next; as long as the slot's contents if there is only one.
    pub stride: usize,
    /// Who sent them, as far as the network knows.
    pub from: SocketAddr,
}

impl Slot {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let from = SocketAddr::from(([0; 4], 0));
        Self { bytes: vec![0; SLOT_BYTES], length: 0, stride: 0, from }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} bytes, stride {}, from {})", self.length, self.stride, self.from)
    }
}

/// Sends and receives bare datagrams.
pub trait Udp: fmt::Debug {
    /// Where it receives.
    ///
    /// # Errors
    /// If the system does not say.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Datagrams that one send may hold. May become smaller, when the system turns out not to like many.
    fn segments_max(&self) -> usize;

    /// Sends `bytes` as datagrams of `segment` bytes each; the last may be shorter.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room now; anything else if it cannot be sent at all.
    fn send(&mut self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()>;

    /// Fills slots with what has come; returns how many.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has come.
    fn receive(&mut self, slots: &mut [Slot]) -> io::Result<usize>;

    /// Sleeps until something has come, or for so long.
    ///
    /// # Errors
    /// If the system cannot wait.
    fn wait(&self, timeout: Duration) -> io::Result<()>;
}

/// A socket of the system.
pub struct KernelUdp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Whether it takes addresses of IPv6, in which those of IPv4 can be written.
    ipv6: bool,
    asked: usize,
    granted: usize,
}

impl fmt::Debug for KernelUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelUdp").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl KernelUdp {
    /// Opens a socket and asks for so large buffers [bytes].
    ///
    /// # Errors
    /// If the address is taken, or the system has no such sockets.
    pub fn bind(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        let options = socket2::SockRef::from(&socket);
        // Too much asked is an error on some systems, less granted on others: either way what counts is what is read back.
        let _ = options.set_recv_buffer_size(buffer);
        let _ = options.set_send_buffer_size(buffer);
        let reported = options.recv_buffer_size()?;
        // Linux reports twice what it grants, the other half is for its own records.
        let granted = if cfg!(target_os = "linux") { reported / 2 } else { reported };
        let ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, state, ipv6, asked: buffer, granted })
    }

    /// The receive buffer that the system gave us [bytes].
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// What to tell the user if the system gave less than was asked.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self { asked, granted, .. } = self;
        let text = || {
            format!(
                "the system grants a receive buffer of {granted} bytes, not {asked}: when much comes at once, datagrams will be lost \
                 and sent again. On Linux, raise the limit: sysctl -w net.core.rmem_max={asked}"
            )
        };
        (granted < asked).then(text)
    }

    fn transmit(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// The address in the family of this socket.
    fn native(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// An IPv4 address that a socket of both families reports as one of IPv6 is shown as what it is.
fn plain(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

impl Udp for KernelUdp {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
        let to = self.native(to);
        match self.transmit(to, bytes, segment) {
            // The network card takes no segmented sends after all: quinn-udp has noted it, and this time they go one by one.
            Err(error)
                if error.kind() != io::ErrorKind::WouldBlock && bytes.len() > segment && self.segments_max() == 1 =>
            {
                bytes.chunks(segment).try_for_each(|datagram| self.transmit(to, datagram, segment))
            }
            result => result,
        }
    }

    fn receive(&mut self, slots: &mut [Slot]) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); SLOTS];
        let filled = {
            let mut rooms = slots.iter_mut().map(|slot| IoSliceMut::new(&mut slot.bytes));
            let mut rooms: [IoSliceMut<'_>; SLOTS] =
                std::array::from_fn(|_| rooms.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let count = slots_given(&rooms);
            self.state.recv((&self.socket).into(), &mut rooms[..count], &mut metas[..count])?
        };
        for (slot, meta) in slots.iter_mut().zip(&metas[..filled]) {
            (slot.length, slot.stride, slot.from) = (meta.len, meta.stride, plain(meta.addr));
        }
        Ok(filled)
    }

    #[cfg(unix)]
    fn wait(&self, timeout: Duration) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
            // A signal wakes as well as a datagram does.
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Elsewhere a short sleep has to do.
    #[cfg(not(unix))]
    fn wait(&self, timeout: Duration) -> io::Result<()> {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
        Ok(())
    }
}

/// How many rooms are real: those that were not given are empty and stand at the end.
fn slots_given(rooms: &[IoSliceMut<'_>]) -> usize {
    rooms.iter().take_while(|room| !room.is_empty()).count()
}

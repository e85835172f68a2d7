//! A trial of the page scan before a pool relies on it: the scan must report every dirty page of a slot, and no clean
//! one.

use std::io;
use std::ops::{ControlFlow, Range};

use super::image::Image;
use super::mapped::Mapped;
use super::pagemap::{Pagemap, REGIONS};
use super::reservation::{Reservation, page_size};
use crate::limits::PAGE;

/// Fails unless `pagemap` finds exactly the dirty pages of a slot that is made for this trial.
pub(super) fn run(pagemap: &Pagemap) -> io::Result<()> {
    // More dirty stretches than one call returns: every second page of the first two thirds is written.
    let page = page_size();
    let len = (4 * REGIONS * page).next_multiple_of(PAGE as usize);
    let (third, grown) = (len / page / 3, len + PAGE as usize);
    let image = Image::new(len as u64, &[(0, &vec![1; third * page])])
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut slot = Mapped::new(Reservation::new()?, image.content().clone()).map_err(|(_, e)| e)?;
    expect(pagemap, &slot, len, [])?;

    // Reading maps the file's pages and the zero page, which are clean.
    for offset in (0..len).step_by(page) {
        // SAFETY: the first `len` bytes of the slot are accessible, and it is ours.
        unsafe { slot.base().add(offset).read_volatile() };
    }
    expect(pagemap, &slot, len, [])?;

    slot.grow_to(grown)?;
    let dirty = || {
        (0..2 * third)
            .step_by(2)
            .map(|index| index * page)
            .chain([len])
    };
    for offset in dirty() {
        // SAFETY: as above, and `len` itself was grown.
        unsafe { slot.base().add(offset).write_volatile(2) };
    }
    expect(pagemap, &slot, grown, dirty())?;

    // Swap the dirty pages out; without swap this does nothing.
    // SAFETY: advice on the slot's own accessible memory; the content stays.
    unsafe { libc::madvise(slot.base().cast(), grown, libc::MADV_PAGEOUT) };
    expect(pagemap, &slot, grown, dirty())
}

fn expect(
    pagemap: &Pagemap,
    slot: &Mapped,
    len: usize,
    dirty: impl IntoIterator<Item = usize>,
) -> io::Result<()> {
    let mut found = Vec::new();
    let end = slot.content().nonzero().end;
    pagemap.scan(slot.base(), 0..len, |pages: Range<usize>, zero| {
        let clean_from = if zero { end } else { len };
        found.extend(
            pages
                .step_by(page_size())
                .filter(|&offset| offset < clean_from),
        );
        ControlFlow::Continue(())
    })?;
    if found.into_iter().eq(dirty) {
        Ok(())
    } else {
        Err(io::Error::other(
            "the kernel's page scan reported other pages than those that were written to",
        ))
    }
}

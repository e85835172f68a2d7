//! Generated guests: images of any size, sandboxes that dirty a known number of pages, and modules as large as an
//! interpreter.

use std::borrow::Cow;

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ElementSection, Elements, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, ImportSection, MemArg, MemorySection,
    MemoryType, Module, RefType, TableSection, TableType, TypeSection, ValType,
};

/// Bytes of one page of the kernel.
const PAGE: u32 = 4096;

/// Bytes of one page of wasm.
const WASM_PAGE: u32 = 65_536;

/// The offset of a sleeping guest's clock subscription in its image.
const SUBSCRIPTION: u32 = 1024;

/// The response of a guest that answers.
pub const RESPONSE: &str =
    r#"{"status":200,"headers":{"Content-Type":["text/plain"]},"body":"Hello from an image\n"}"#;

/// The body in [`RESPONSE`].
pub const BODY: &str = "Hello from an image\n";

/// The properties of a synthetic guest. It checks that every page that it will dirty holds its image, and traps if not.
/// So an answer shows that the reset before it was complete, as far as this guest can see.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// Bytes of initial memory, all of which are data: whole wasm pages.
    pub image: u32,
    /// Pages of 4 KiB that one run dirties, spread over the image. With `answer`, at least one.
    pub dirty: u32,
    /// Functions besides the entry point, each in the table.
    pub functions: u32,
    /// Bytes of code in each of them, about.
    pub function_bytes: u32,
    /// Whether it answers according to the contract. If not, it imports nothing.
    pub answer: bool,
    /// How long it sleeps once its pages are dirty.
    pub sleep_ms: u32,
}

impl Synthetic {
    /// A guest that only has an image and dirties pages.
    #[must_use]
    pub fn image(image: u32, dirty: u32) -> Self {
        Self {
            image,
            dirty,
            functions: 0,
            function_bytes: 0,
            answer: false,
            sleep_ms: 0,
        }
    }

    /// The module.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        const UNIT: u32 = 0;
        const HOSTCALL: u32 = 1;
        const WORK: u32 = 2;

        let mut types = TypeSection::new();
        types.ty().function([], []);
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        types.ty().function([ValType::I32], [ValType::I32]);

        let mut imports = ImportSection::new();
        let mut import = |wanted: bool, name: &str| {
            wanted.then(|| {
                imports.import(
                    "wasi_snapshot_preview1",
                    name,
                    EntityType::Function(HOSTCALL),
                );
                imports.len() - 1
            })
        };
        let fd_write = import(self.answer, "fd_write");
        let poll_oneoff = import(self.sleep_ms > 0, "poll_oneoff");
        let first_work = imports.len();

        let mut functions = FunctionSection::new();
        (0..self.functions).for_each(|_| {
            functions.function(WORK);
        });
        functions.function(UNIT);
        let start = first_work + self.functions;

        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: u64::from(self.functions),
            maximum: Some(u64::from(self.functions)),
            shared: false,
        });

        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: u64::from(self.image / WASM_PAGE),
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });

        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        exports.export("_start", ExportKind::Func, start);

        let mut elements = ElementSection::new();
        let all: Vec<u32> = (first_work..start).collect();
        elements.active(
            None,
            &ConstExpr::i32_const(0),
            Elements::Functions(Cow::Owned(all)),
        );

        let mut code = CodeSection::new();
        for index in 0..self.functions {
            code.function(&work(index, self.function_bytes));
        }
        code.function(&self.entry(fd_write, poll_oneoff, WORK));

        let mut data = DataSection::new();
        // About as many segments as a linker makes for a large program. Go's linker makes far more.
        let bytes = self.image_bytes();
        for (index, part) in bytes.chunks(256 * 1024).enumerate() {
            let offset = i32::try_from(index * 256 * 1024).expect("images are far below 2 GiB");
            data.active(0, &ConstExpr::i32_const(offset), part.iter().copied());
        }

        let mut module = Module::new();
        module.section(&types);
        if !imports.is_empty() {
            module.section(&imports);
        }
        module.section(&functions);
        if self.functions > 0 {
            module.section(&tables);
        }
        module.section(&memories).section(&exports);
        if self.functions > 0 {
            module.section(&elements);
        }
        module.section(&code).section(&data);
        module.finish()
    }

    /// The address of the first word that the guest dirties.
    fn first(&self) -> u32 {
        PAGE + PAGE / 2
    }

    /// The distance from one dirtied word to the next, in whole pages.
    fn stride(&self) -> u32 {
        let pages = self.image / PAGE - 1;
        (pages / self.dirty.max(1)).max(1) * PAGE
    }

    fn image_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..self.image / 4)
            .flat_map(|word| expected(word * 4).to_le_bytes())
            .collect();
        // An iovec, the response it describes, and a subscription to the monotonic clock.
        let mut put = |at: u32, what: &[u8]| {
            bytes[at as usize..at as usize + what.len()].copy_from_slice(what);
        };
        put(0, &16u32.to_le_bytes());
        put(4, &(RESPONSE.len() as u32).to_le_bytes());
        put(16, RESPONSE.as_bytes());
        put(SUBSCRIPTION, &[0; 48]);
        put(SUBSCRIPTION + 16, &1u32.to_le_bytes());
        let nanos = u64::from(self.sleep_ms) * 1_000_000;
        put(SUBSCRIPTION + 24, &nanos.to_le_bytes());
        bytes
    }

    fn entry(&self, fd_write: Option<u32>, poll_oneoff: Option<u32>, work: u32) -> Function {
        let word = MemArg {
            offset: 0,
            align: 2,
            memory_index: 0,
        };
        // Locals: 0 counts, 1 is the address.
        let mut function = Function::new([(2, ValType::I32)]);
        let mut body = function.instructions();
        if self.dirty > 0 {
            body.i32_const(self.first() as i32).local_set(1);
            body.loop_(BlockType::Empty);
            // Trap unless it is the image's word.
            body.local_get(1).i32_load(word);
            body.local_get(1)
                .i32_const(FACTOR as i32)
                .i32_mul()
                .i32_const(1)
                .i32_or();
            body.i32_ne()
                .if_(BlockType::Empty)
                .unreachable()
                .end()
                .local_get(1)
                .i32_const(-559_038_737)
                .i32_store(word);
            body.local_get(1)
                .i32_const(self.stride() as i32)
                .i32_add()
                .local_set(1);
            body.local_get(0)
                .i32_const(1)
                .i32_add()
                .local_tee(0)
                .i32_const(self.dirty as i32)
                .i32_lt_u()
                .br_if(0)
                .end();
        }
        for index in (0..self.functions).step_by((self.functions as usize / 8).max(1)) {
            body.i32_const(7)
                .i32_const(index as i32)
                .call_indirect(0, work)
                .drop();
        }
        // The hostcalls write to the page that was dirtied first.
        let result = self.first() + 64;
        if let Some(poll_oneoff) = poll_oneoff {
            body.i32_const(SUBSCRIPTION as i32)
                .i32_const(result as i32)
                .i32_const(1)
                .i32_const(result as i32 + 32)
                .call(poll_oneoff)
                .if_(BlockType::Empty)
                .unreachable()
                .end();
        }
        if let Some(fd_write) = fd_write {
            body.i32_const(1)
                .i32_const(0)
                .i32_const(1)
                .i32_const(result as i32)
                .call(fd_write)
                .if_(BlockType::Empty)
                .unreachable()
                .end();
        }
        body.end();
        function
    }
}

const FACTOR: u32 = 0x9e37_79b1;

/// The image's word at `address`, which is never zero.
fn expected(address: u32) -> u32 {
    address.wrapping_mul(FACTOR) | 1
}

/// A function of about `bytes` bytes. Its arithmetic and loads make a compiler allocate registers and emit bounds checks.
fn work(index: u32, bytes: u32) -> Function {
    let load = MemArg {
        offset: u64::from(index % 1024),
        align: 0,
        memory_index: 0,
    };
    let mut function = Function::new([(2, ValType::I32)]);
    let mut body = function.instructions();
    // Each iteration appends 23 bytes.
    for turn in 0..bytes / 23 {
        let constant = expected(index.wrapping_mul(31).wrapping_add(turn) * 4) as i32;
        body.local_get(0)
            .i32_const(constant)
            .i32_mul()
            .local_tee(1)
            .i32_const(0xffff)
            .i32_and()
            .i32_load(load)
            .local_get(1)
            .i32_xor()
            .local_set(0);
    }
    body.local_get(0).end();
    function
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::Split;
    use engine_core::wasm::{Features, ModuleLimits, Wasm};

    #[test]
    fn synthetic_guests_are_valid_and_split() {
        for (guest, image) in [
            (Synthetic::image(4 << 20, 256), 4 << 20),
            (
                Synthetic {
                    answer: true,
                    sleep_ms: 5,
                    functions: 100,
                    function_bytes: 300,
                    ..Synthetic::image(1 << 20, 16)
                },
                1 << 20,
            ),
        ] {
            let wasm = Wasm::parse(guest.build(), Features::ALL, &ModuleLimits::default()).unwrap();
            let split = Split::of(&wasm).unwrap();
            assert_eq!(split.why_not, None);
            assert_eq!(split.image.unwrap().len(), image);
        }
    }

    #[test]
    fn dirty_words_stay_inside_the_image_and_off_each_others_pages() {
        for dirty in [1, 16, 255, 256] {
            let guest = Synthetic::image(1 << 20, dirty);
            let last = guest.first() + (dirty - 1) * guest.stride();
            assert!(guest.stride().is_multiple_of(PAGE));
            // The first page is not dirtied, so 256 pages do not fit into an image of 256 pages.
            assert_eq!(last + 4 <= guest.image, dirty < 256);
        }
    }
}

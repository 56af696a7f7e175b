//! `wasi:blobstore` in the component's own memory.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/wit", "../../python/loop_kit/capabilities/blobstore/wit", "wit"],
    world: "loop:blobstore-memory/memory",
    generate_all,
});

mod grant;
mod kept;

use wit_bindgen::{FutureReader, StreamReader, StreamResult, spawn_local};

use exports::wasi::blobstore::blobstore::{Container, Guest as Blobstore, ObjectId};
use exports::wasi::blobstore::container::{
    ContainerMetadata, Guest as Containers, GuestContainer, ObjectMetadata,
};
use exports::wasi::blobstore::types::Error;
use exports::wasi::blobstore::whole::Guest as Whole;
use kept::{Open, Writing};

const PIECE: usize = 64 << 10;

fn quota(words: String) -> Error {
    Error::Quota(words)
}

fn invalid(words: String) -> Error {
    Error::Invalid(words)
}

struct Memory;

struct Named(String);

impl Blobstore for Memory {
    async fn create_container(name: String) -> Result<Container, Error> {
        kept::create(&name)?;
        Ok(Container::new(Named(name)))
    }

    async fn get_container(name: String) -> Result<Container, Error> {
        kept::find(&name)?;
        Ok(Container::new(Named(name)))
    }

    async fn delete_container(name: String) -> Result<(), Error> {
        kept::delete_container(&name)
    }

    async fn container_exists(name: String) -> Result<bool, Error> {
        match kept::find(&name) {
            Err(Error::NoSuchContainer) => Ok(false),
            found => found.map(|()| true),
        }
    }

    async fn copy_object(src: ObjectId, dest: ObjectId) -> Result<(), Error> {
        let object = kept::object(&src.container, &src.object)?;
        let mut writing = Writing::new(&dest.container, &dest.object)?;
        if (&src.container, &src.object) != (&dest.container, &dest.object) {
            for piece in &object.pieces {
                writing.write(piece.clone())?;
            }
            writing.finish()?;
        }
        Ok(())
    }

    async fn move_object(src: ObjectId, dest: ObjectId) -> Result<(), Error> {
        let from = (src.container.clone(), src.object.clone());
        let stays = (&src.container, &src.object) == (&dest.container, &dest.object);
        kept::delete(&src.container, vec![])?; // whether it may
        Self::copy_object(src, dest).await?;
        if stays {
            return Ok(());
        }
        kept::delete(&from.0, vec![from.1])
    }
}

impl Containers for Memory {
    type Container = Named;
}

impl GuestContainer for Named {
    fn name(&self) -> String {
        self.0.clone()
    }

    async fn info(&self) -> Result<ContainerMetadata, Error> {
        kept::find(&self.0)?;
        Ok(ContainerMetadata {
            name: self.0.clone(),
            created_at: 0,
        })
    }

    async fn get_data(
        &self,
        name: String,
        start: u64,
        end: u64,
    ) -> Result<(StreamReader<u8>, FutureReader<Result<(), Error>>), Error> {
        let open = Open::new()?;
        let object = kept::object(&self.0, &name)?;
        let parts = kept::part(&object, start, end)?;
        let (mut data, stream) = wit_stream::new();
        let (ended, future) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            for (number, range) in parts {
                if !data
                    .write_all(object.pieces[number][range].to_vec())
                    .await
                    .is_empty()
                {
                    break; // nobody reads any more
                }
            }
            drop((object, open, data)); // whoever sees the end finds room
            let _ = ended.write(Ok(())).await;
        });
        Ok((stream, future))
    }

    async fn write_data(
        &self,
        name: String,
        mut data: StreamReader<u8>,
        finish: Option<FutureReader<Result<(), ()>>>,
    ) -> Result<u64, Error> {
        let _open = Open::new()?;
        let mut writing = Writing::new(&self.0, &name)?;
        let mut result = StreamResult::Complete(0);
        while !matches!(result, StreamResult::Dropped) {
            let mut piece = Vec::with_capacity(PIECE);
            while piece.len() < PIECE && !matches!(result, StreamResult::Dropped) {
                (result, piece) = data.read(piece).await;
            }
            piece.shrink_to_fit();
            writing.write(piece)?;
        }
        if let Some(finish) = finish {
            finish.await.map_err(|()| Error::GivenUp)?;
        }
        Ok(writing.finish()? as u64)
    }

    async fn list_objects(&self) -> Result<(StreamReader<String>, FutureReader<Result<(), Error>>), Error> {
        let open = Open::new()?;
        let names = kept::names(&self.0, None, true)?;
        let (mut all, stream) = wit_stream::new();
        let (ended, future) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            all.write_all(names).await;
            drop((open, all));
            let _ = ended.write(Ok(())).await;
        });
        Ok((stream, future))
    }

    async fn delete_object(&self, name: String) -> Result<(), Error> {
        kept::delete(&self.0, vec![name])
    }

    async fn delete_objects(&self, names: Vec<String>) -> Result<(), Error> {
        kept::delete(&self.0, names)
    }

    async fn has_object(&self, name: String) -> Result<bool, Error> {
        match kept::object(&self.0, &name) {
            Err(Error::NoSuchObject) => Ok(false),
            found => found.map(|_| true),
        }
    }

    async fn object_info(&self, name: String) -> Result<ObjectMetadata, Error> {
        info(self.0.clone(), name)
    }

    async fn clear(&self) -> Result<(), Error> {
        kept::clear(&self.0)
    }
}

impl Whole for Memory {
    fn read_object(id: ObjectId) -> Result<Vec<u8>, Error> {
        Self::read_range(id, 0, u64::MAX)
    }

    fn read_range(id: ObjectId, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let object = kept::object(&id.container, &id.object)?;
        let parts = kept::part(&object, start, end)?;
        let (size, most) = (
            parts.iter().map(|(_, range)| range.len()).sum::<usize>(),
            kept::max_whole(),
        );
        if size > most {
            return Err(quota(format!(
                "more than the {most} bytes that `grant.max-whole` lets be read at once"
            )));
        }
        let mut data = Vec::with_capacity(size);
        for (number, range) in parts {
            data.extend_from_slice(&object.pieces[number][range]);
        }
        Ok(data)
    }

    fn write_object(id: ObjectId, data: Vec<u8>) -> Result<(), Error> {
        let mut writing = Writing::new(&id.container, &id.object)?;
        writing.write(data)?;
        writing.finish().map(drop)
    }

    fn delete_object(id: ObjectId) -> Result<(), Error> {
        kept::delete(&id.container, vec![id.object])
    }

    fn object_info(id: ObjectId) -> Result<ObjectMetadata, Error> {
        info(id.container, id.object)
    }

    fn list_objects(container: String, after: Option<String>) -> Result<Vec<String>, Error> {
        kept::names(&container, after.as_deref(), false)
    }
}

fn info(container: String, name: String) -> Result<ObjectMetadata, Error> {
    let size = kept::object(&container, &name)?.size as u64;
    Ok(ObjectMetadata {
        name,
        container,
        created_at: 0,
        size,
    })
}

export!(Memory);

"""What a program meets that embeds LiveMind. ``livemind`` loads each name when it is first used.

Owns the list alone: imports that type checkers follow and ``livemind`` reads as text. Tests hold it
against what public calls take, return and raise.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backends.base import (
        Capabilities as Capabilities,
        Chunk as Chunk,
        Expert as Expert,
        GenerationParams as GenerationParams,
        Health as Health,
        Image as Image,
        Message as Message,
        MessageDetails as MessageDetails,
        PrefillResult as PrefillResult,
        Priority as Priority,
        StructuredOutput as StructuredOutput,
        Tokenizer as Tokenizer,
        TokenLogprob as TokenLogprob,
        TokenPrompt as TokenPrompt,
        ToolCall as ToolCall,
        ToolCallDelta as ToolCallDelta,
        Usage as Usage,
    )
    from .backends.drafts import (
        DraftFeed as DraftFeed,
    )
    from .backends.errors import (
        ExpertError as ExpertError,
        ExpertOverloaded as ExpertOverloaded,
        ExpertTimeout as ExpertTimeout,
        ExpertUnavailable as ExpertUnavailable,
        PromptRejected as PromptRejected,
    )
    from .backends.pool.state import (
        Counts as Counts,
        ExpertState as ExpertState,
    )
    from .backends.spec import (
        ExpertSpec as ExpertSpec,
    )
    from .orchestrator.client.answer import (
        LiveAnswer as LiveAnswer,
    )
    from .orchestrator.client.client import (
        LiveClient as LiveClient,
    )
    from .orchestrator.client.events import (
        CompletionChunk as CompletionChunk,
        ServedModel as ServedModel,
        UnknownEvent as UnknownEvent,
    )
    from .orchestrator.client.options import (
        LiveOptions as LiveOptions,
    )
    from .orchestrator.client.session import (
        RemoteSession as RemoteSession,
    )
    from .orchestrator.config.experts import (
        ExpertConfig as ExpertConfig,
    )
    from .orchestrator.config.sections import (
        ConsensusConfig as ConsensusConfig,
        ConversationConfig as ConversationConfig,
        DomainConfig as DomainConfig,
        ImagesConfig as ImagesConfig,
        LazyLoadingConfig as LazyLoadingConfig,
        RagConfig as RagConfig,
        RouterConfig as RouterConfig,
        SpeculationConfig as SpeculationConfig,
    )
    from .orchestrator.config.server import (
        ServerConfig as ServerConfig,
    )
    from .orchestrator.config.settings import (
        Settings as Settings,
        load_settings as load_settings,
    )
    from .orchestrator.config.telemetry import (
        TelemetryConfig as TelemetryConfig,
    )
    from .orchestrator.consensus.options import (
        Consensus as Consensus,
    )
    from .orchestrator.conversation import (
        ConversationRules as ConversationRules,
    )
    from .orchestrator.errors import (
        BodyTooSlow as BodyTooSlow,
        ConfigError as ConfigError,
        Conflict as Conflict,
        ErrorInfo as ErrorInfo,
        Forbidden as Forbidden,
        InvalidRequest as InvalidRequest,
        LiveMindError as LiveMindError,
        NotFound as NotFound,
        Overloaded as Overloaded,
        PayloadTooLarge as PayloadTooLarge,
        RevisionConflict as RevisionConflict,
        TurnCancelled as TurnCancelled,
        Unauthorized as Unauthorized,
        Unavailable as Unavailable,
    )
    from .orchestrator.events import (
        Abstention as Abstention,
        ConsensusRecord as ConsensusRecord,
        DocumentsUsed as DocumentsUsed,
        DraftAdopted as DraftAdopted,
        DraftCreated as DraftCreated,
        DraftDiscarded as DraftDiscarded,
        ExpertUpdated as ExpertUpdated,
        Ledger as Ledger,
        PrefillUpdated as PrefillUpdated,
        ResponseCreated as ResponseCreated,
        ResponseDone as ResponseDone,
        ResponseReasoningDelta as ResponseReasoningDelta,
        ResponseSentence as ResponseSentence,
        ResponseTextDelta as ResponseTextDelta,
        ResponseTextDone as ResponseTextDone,
        ResponseToolCallDelta as ResponseToolCallDelta,
        RetrievalUpdated as RetrievalUpdated,
        RetrievedPassage as RetrievedPassage,
        RouteUpdated as RouteUpdated,
        Span as Span,
        Timings as Timings,
        Vote as Vote,
    )
    from .orchestrator.heard import (
        SpokenWord as SpokenWord,
    )
    from .orchestrator.item_events import (
        ConversationItem as ConversationItem,
        ConversationTrimmed as ConversationTrimmed,
        InputIgnored as InputIgnored,
        Item as Item,
        ItemAdded as ItemAdded,
        ItemContent as ItemContent,
        ItemDeleted as ItemDeleted,
        ItemDone as ItemDone,
        ItemRetrieved as ItemRetrieved,
        ItemTruncated as ItemTruncated,
    )
    from .orchestrator.items import (
        SessionItems as SessionItems,
    )
    from .orchestrator.live_mind import (
        LiveMind as LiveMind,
    )
    from .orchestrator.options import (
        SessionOptions as SessionOptions,
    )
    from .orchestrator.rates import (
        ExpertRates as ExpertRates,
    )
    from .orchestrator.server.consensus_schema import (
        ConsensusInForce as ConsensusInForce,
    )
    from .orchestrator.server.live.answers import (
        DraftStatus as DraftStatus,
        ErrorDetail as ErrorDetail,
        ErrorFrame as ErrorFrame,
        InputSettings as InputSettings,
        SamplingInForce as SamplingInForce,
        SessionCreated as SessionCreated,
        SessionMoving as SessionMoving,
        SessionSettings as SessionSettings,
        SessionStatus as SessionStatus,
        SessionUpdated as SessionUpdated,
    )
    from .orchestrator.session import (
        Session as Session,
    )
    from .orchestrator.stats import (
        ExpertInfo as ExpertInfo,
    )
    from .rag.base import (
        Embedder as Embedder,
        Passage as Passage,
        RetrievalResult as RetrievalResult,
        Retriever as Retriever,
    )


@cache
def homes() -> dict[str, str]:
    """Return the module of every name, from the text of the imports above."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    imports = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and one.level]
    return {alias.name: f".{one.module}" for one in imports for alias in one.names}

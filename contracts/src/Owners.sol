// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {PeerKeys} from "./PeerKeys.sol";

/// @title Owners
/// @notice The wallet behind a peer, which is paid for it and can replace its key. One owner may have many peers. A link
/// needs the consent of both, since an owner alone could collect a stranger's pay; ending it needs the owner alone, since
/// the key of a peer may be in a thief's hands.
abstract contract Owners is PeerKeys {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @notice An owner cannot be the zero address.
    error OwnerIsZero();

    /// @notice The peer has the owner `owner` already, who has to unlink it first.
    error AlreadyLinked(address peer, address owner);

    /// @notice `sender` is not the owner of the peer, which is `owner`; zero where the peer has none.
    error NotOwner(address sender, address peer, address owner);

    /// @notice From now on `owner` is paid for the peer and can replace its key.
    event OwnerLinked(address indexed peer, address indexed owner);

    /// @notice The peer stands by itself again.
    event OwnerUnlinked(address indexed peer, address indexed owner);

    bytes32 private constant LINK_TYPE = keccak256("Link(address peer,address owner,uint256 nonce,uint256 deadline)");
    bytes32 private constant UNLINK_TYPE = keccak256("Unlink(address peer,uint256 nonce,uint256 deadline)");

    mapping(address peer => address owner) private _ownerOf;
    mapping(address owner => EnumerableSet.AddressSet) private _peersOf;

    /// @notice Links a peer to its owner. Both sign Link(address peer,address owner,uint256 nonce,uint256 deadline), each
    /// with its own nonce; the signature of the one who sends the transaction may be empty.
    /// @param owner An account, or a contract that speaks ERC-1271.
    function linkOwner(
        address peer,
        address owner,
        uint256 deadline,
        bytes calldata peerSignature,
        bytes calldata ownerSignature
    ) external whenNotPaused {
        _requireRegistered(peer);
        if (owner == address(0)) revert OwnerIsZero();
        if (_ownerOf[peer] != address(0)) revert AlreadyLinked(peer, _ownerOf[peer]);
        if (!_isSender(peer, peerSignature)) {
            _requireKeySignature(peer, _linkHash(peer, owner, _useNonce(peer), deadline), deadline, peerSignature);
        }
        if (!_isSender(owner, ownerSignature)) {
            _requireOwnerSignature(owner, _linkHash(peer, owner, _useNonce(owner), deadline), deadline, ownerSignature);
        }
        _link(peer, owner);
    }

    /// @notice Ends the link of a peer, called by its owner.
    function unlinkOwner(address peer) external whenNotPaused {
        _requireOwner(peer);
        _unlink(peer);
    }

    /// @notice Ends the link of a peer; the sender pays for its owner.
    /// @param signature By the owner, over Unlink(address peer,uint256 nonce,uint256 deadline).
    function unlinkOwnerFor(address peer, uint256 deadline, bytes calldata signature) external whenNotPaused {
        _requireRegistered(peer);
        address owner = _ownerOf[peer];
        bytes32 structHash = keccak256(abi.encode(UNLINK_TYPE, peer, _useNonce(owner), deadline));
        _requireOwnerSignature(owner, structHash, deadline, signature);
        _unlink(peer);
    }

    /// @notice The owner of a peer; zero where it has none. A retired key keeps the owner who replaced it.
    function ownerOf(address peer) public view returns (address) {
        return _ownerOf[peer];
    }

    /// @notice How many peers are linked to `owner`.
    function peerCountOf(address owner) external view returns (uint256) {
        return _peersOf[owner].length();
    }

    /// @notice A page of the peers of `owner`. Their order changes when one is unlinked.
    /// @param offset The number of peers to skip. Past the end the page is empty.
    /// @param limit The most peers to return. A page never has more than 256.
    function peersOf(address owner, uint256 offset, uint256 limit) external view returns (address[] memory) {
        limit = _pageLength(_peersOf[owner].length(), offset, limit);
        return limit == 0 ? new address[](0) : _peersOf[owner].values(offset, offset + limit);
    }

    /// @dev Who is paid for the account, and commands its stake: its owner, or else itself.
    function _payeeOf(address account) internal view returns (address) {
        address owner = _ownerOf[account];
        return owner == address(0) ? account : owner;
    }

    function _link(address peer, address owner) internal {
        _ownerOf[peer] = owner;
        // slither-disable-next-line unused-return (a peer without owner is in no list)
        _peersOf[owner].add(peer);
        emit OwnerLinked(peer, owner);
    }

    /// @dev The new key gets the owner. The old one keeps it for what it has earned, but is not listed any more.
    function _moveLink(address oldPeer, address newPeer) internal {
        address owner = _ownerOf[oldPeer];
        // slither-disable-next-line unused-return (a peer is in its owner's list)
        _peersOf[owner].remove(oldPeer);
        _link(newPeer, owner);
    }

    /// @dev Requires that the sender owns `peer`, which is registered.
    function _requireOwner(address peer) internal view {
        _requireRegistered(peer);
        address owner = _ownerOf[peer];
        if (msg.sender != owner) revert NotOwner(msg.sender, peer, owner);
    }

    function _unlink(address peer) private {
        address owner = _ownerOf[peer];
        delete _ownerOf[peer];
        // slither-disable-next-line unused-return (a peer is in its owner's list)
        _peersOf[owner].remove(peer);
        emit OwnerUnlinked(peer, owner);
    }

    function _linkHash(address peer, address owner, uint256 nonce, uint256 deadline) private pure returns (bytes32) {
        return keccak256(abi.encode(LINK_TYPE, peer, owner, nonce, deadline));
    }
}
